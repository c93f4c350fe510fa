"""The check command: which of host, port, TLS, credentials, keyspace, shard or tablet type is wrong, in one sentence."""
import base64
import concurrent.futures
import tempfile
import time
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import BranchTest, Connector, LocalBranch, Relay, SilentServer, make_certificate

# A label of more than 63 characters: no name server is asked for it.
UNKNOWN_HOST = "x" * 70 + ".invalid"
PASSWORD = "pscale_pw_Zk3vUqQ1"


class CheckTest(BranchTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.certificate, cls.key = make_certificate(cls.folder.name)
        cls.plain = LocalBranch(["commerce:2", "plain:1"], rows=10, username="reader", password=PASSWORD)
        cls.addClassCleanup(cls.plain.close)
        cls.secure = LocalBranch(
            ["commerce:2"], rows=10, username="reader", password=PASSWORD, tls=(cls.certificate, cls.key)
        )
        cls.addClassCleanup(cls.secure.close)

    def verify(self, **changes):
        return {"mode": "verify", "ca_certificate": self.certificate.read_text(), **changes}

    def check(self, branch, **changes):
        with Connector(branch.config(**changes)) as connector:
            transcript = connector.check()
        self.assertEqual(0, transcript.code, transcript.explain())
        self.assertEqual([], transcript.errors, transcript.explain())
        self.assertNotIn(PASSWORD, transcript.output.decode() + transcript.stderr)
        return transcript.connection_status

    def assert_fails(self, status, *words):
        """FAILED with a sentence (it ends in a period) that has all the words, whatever their case."""
        self.assertEqual("FAILED", status["status"], status)
        message = status["message"]
        for word in words:
            self.assertIn(word.lower(), message.lower())
        self.assertRegex(message, r"[.!]$")
        self.assertLess(len(message), 600)


class CheckSucceeds(CheckTest):
    def test_plaintext_branch_with_a_login(self):
        status = self.check(self.plain, database="commerce")
        self.assertEqual("SUCCEEDED", status["status"], status)

    def test_several_keyspaces_at_once(self):
        status = self.check(self.plain, database="commerce, plain")
        self.assertEqual("SUCCEEDED", status["status"], status)

    def test_tls_branch_with_its_certificate_as_authority(self):
        status = self.check(self.secure, database="commerce", tls=self.verify())
        self.assertEqual("SUCCEEDED", status["status"], status)

    def test_shards_with_blanks_and_a_trailing_comma(self):
        """S12"""
        status = self.check(self.plain, database="commerce", shards=" -80 , 80-, ")
        self.assertEqual("SUCCEEDED", status["status"], status)


class CheckFindsTablets(CheckTest):
    def test_each_tablet_type(self):
        """P11: on a branch with tablets of one type alone only the configuration that asks for it succeeds, the others are told
        at once which type is missing."""
        asking = {"PRIMARY": {}, "REPLICA": {"use_replica": True}, "RDONLY": {"use_rdonly": True}}
        for served in asking:
            branch = self.branch(["commerce:2"], rows=10, options=["--tablet-types", served.lower()])
            for wanted, changes in asking.items():
                with self.subTest(served=served, wanted=wanted):
                    status = self.check(branch, **changes)
                    if wanted == served:
                        self.assertEqual("SUCCEEDED", status["status"], status)
                    else:
                        self.assert_fails(status, f"no serving {wanted} tablet", "use_replica", "use_rdonly", "commerce/")


class CheckNamesTheFault(CheckTest):
    """S15: every fault has a message of its own."""

    def test_unknown_host(self):
        self.assert_fails(self.check(self.plain, database="commerce", host=UNKNOWN_HOST), "host", "x" * 20)

    def test_mysql_port_closed(self):
        port = self.closed_port()
        status = self.check(self.plain, database="commerce", mysql_port=port)
        self.assert_fails(status, "no connection", "mysql_port", str(port))

    def test_grpc_port_closed(self):
        port = self.closed_port()
        status = self.check(self.plain, database="commerce", port=port)
        self.assert_fails(status, "connection refused", "port", str(port))
        self.assertNotIn("mysql_port", status["message"])

    def test_wrong_password(self):
        status = self.check(self.plain, database="commerce", password="something else")
        self.assert_fails(status, "password")
        self.assertNotIn("something else", status["message"])

    def test_wrong_user_name(self):
        self.assert_fails(self.check(self.plain, database="commerce", username="nobody"), "username", "nobody")

    def test_unknown_keyspace(self):
        self.assert_fails(self.check(self.plain, database="comerce"), "keyspace", "comerce")

    def test_one_of_two_keyspaces_unknown(self):
        status = self.check(self.plain, database="commerce,nosuch")
        self.assert_fails(status, "keyspace", "nosuch")

    def test_unknown_shard(self):
        """S7"""
        self.assert_fails(self.check(self.plain, database="commerce", shards="-40"), "shard", "-40")

    def test_unknown_shard_of_a_keyspace(self):
        status = self.check(self.plain, database="commerce,plain", shards="plain/-80")
        self.assert_fails(status, "shard", "plain/-80")

    def test_tls_wanted_from_a_plaintext_server(self):
        status = self.check(self.plain, database="commerce", tls=self.verify())
        self.assert_fails(status, "tls")

    def test_plaintext_wanted_from_a_tls_server(self):
        status = self.check(self.secure, database="commerce")
        self.assert_fails(status, "tls")

    def test_no_downgrade_to_plain_text(self):
        """Neither port gets a login from somebody who wants TLS, whether tls.mode is given or left to its default."""
        for tls in (self.verify(), {}, None, {"mode": "verify"}):
            mysql, grpc = Relay(self.plain.mysql_port), Relay(self.plain.grpc_port)
            self.addCleanup(mysql.close)
            self.addCleanup(grpc.close)
            with self.subTest(tls=tls and sorted(tls)):
                # Each port alone: the first that fails ends the check.
                for ports in ({"mysql_port": mysql.port}, {"mysql_port": self.secure.mysql_port, "port": grpc.port}):
                    self.assert_fails(self.check(self.plain, database="commerce", tls=tls, **ports), "tls")
                said = bytes(mysql.said + grpc.said)
                for secret in (b"reader", PASSWORD.encode(), base64.b64encode(f"reader:{PASSWORD}".encode())):
                    self.assertNotIn(secret, said)

    def test_plain_text_says_the_login_only_where_tls_is_disabled(self):
        """That the relay would have heard it."""
        mysql, grpc = Relay(self.plain.mysql_port), Relay(self.plain.grpc_port)
        self.addCleanup(mysql.close)
        self.addCleanup(grpc.close)
        status = self.check(self.plain, database="commerce", mysql_port=mysql.port, port=grpc.port)
        self.assertEqual("SUCCEEDED", status["status"], status)
        self.assertIn(b"reader", mysql.said)
        self.assertIn(PASSWORD.encode(), grpc.said)

    def test_a_certificate_of_another_authority(self):
        with tempfile.TemporaryDirectory() as folder:
            stranger, _ = make_certificate(folder)
            trusted = {"mode": "verify", "ca_certificate": stranger.read_text()}
            self.assert_fails(self.check(self.secure, database="commerce", tls=trusted), "certificate")

    def test_self_signed_certificate_without_its_authority(self):
        status = self.check(self.secure, database="commerce", tls={"mode": "verify"})
        self.assert_fails(status, "certificate", "ca_certificate")

    def test_certificate_for_another_name(self):
        status = self.check(self.secure, database="commerce", tls=self.verify(server_name="db.example.com"))
        self.assert_fails(status, "certificate", "name")

    def test_grpc_port_and_mysql_port_exchanged(self):
        status = self.check(
            self.plain, database="commerce", port=self.plain.mysql_port, mysql_port=self.plain.grpc_port
        )
        self.assert_fails(status, "mysql_port")

    def test_mysql_port_given_as_grpc_port(self):
        status = self.check(self.plain, database="commerce", port=self.plain.mysql_port)
        self.assert_fails(status, "port")

    def test_all_problems_of_a_configuration_at_once(self):
        status = self.check(self.plain, database="", port=0, timeout_seconds=0, tls={"mode": "maybe"})
        self.assert_fails(status, "database", "port", "timeout_seconds", "tls.mode")

    def test_faults_have_distinct_messages(self):
        faults = (
            {"host": UNKNOWN_HOST},
            {"mysql_port": self.closed_port()},
            {"port": self.closed_port()},
            {"password": "wrong"},
            {"database": "nosuch"},
            {"shards": "40-"},
            {"tls": {"mode": "verify"}},
        )
        messages = [self.check(self.plain, **{"database": "commerce", **fault})["message"] for fault in faults]
        self.assertEqual(len(faults), len(set(messages)), messages)


class CheckIsBounded(CheckTest):
    def test_silent_servers_end_within_thirty_seconds(self):
        """P2: a server that accepts and never answers, on either port, with and without TLS."""
        silent = SilentServer()
        self.addCleanup(silent.close)
        cases = (
            {"mysql_port": silent.port},
            {"mysql_port": silent.port, "tls": self.verify()},
            {"port": silent.port},
            {"port": silent.port, "mysql_port": silent.port},
        )

        def timed(changes):
            started = time.monotonic()
            return self.check(self.plain, database="commerce", **changes), time.monotonic() - started

        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
            for changes, (status, seconds) in zip(cases, pool.map(timed, cases)):
                with self.subTest(changes=sorted(changes)):
                    self.assert_fails(status, "did not")
                    self.assertLess(seconds, 30)

    def test_silent_grpc_port_behind_tls_ends_within_thirty_seconds(self):
        silent = SilentServer()
        self.addCleanup(silent.close)
        started = time.monotonic()
        status = self.check(self.secure, database="commerce", port=silent.port, tls=self.verify())
        self.assert_fails(status, "tls")
        self.assertLess(time.monotonic() - started, 30)


class CheckIsPatient(FaultTest):
    def test_a_slow_peek_passes_where_the_server_gives_signs_of_life(self):
        """P2: for 14 s the peek brings heartbeats only, which is longer than the 12 s of a server that is silent."""

        def stalled(heartbeats):
            stall = {"do": "stall", "phase": "peek", "ms": 14_000, "heartbeats": heartbeats}
            return self.faulty([stall], ["commerce:2"], rows=10)

        def timed(branch):
            started = time.monotonic()
            return self.connector(branch.config()).check().connection_status, time.monotonic() - started

        branches = [stalled(heartbeats=True), stalled(heartbeats=False)]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            (alive, seconds), (silent, _) = pool.map(timed, branches)
        self.assertEqual("SUCCEEDED", alive["status"], alive)
        self.assertGreaterEqual(seconds, 13)
        # Without heartbeats the same is given up before it answers.
        self.assertEqual("FAILED", silent["status"], silent)
        self.assertIn("did not tell the shards' positions within 12 s", silent["message"])
        for branch in branches:
            branch.stop()
            self.assertEqual(["stall"], self.happened(branch))


if __name__ == "__main__":
    unittest.main()
