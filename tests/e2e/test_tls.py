"""TLS from end to end: what `check` and `read` accept and refuse at each of the two ports, that each fault has a message of
its own, and that none of them costs a login.

What is possible with the OpenSSL of Debian 12: a server of TLS 1.0 or 1.1 works at security level 0. local-branch's MySQL port
can be one (--tls-old); gRPC's server speaks nothing below 1.2, so at the gRPC port a server of Python's stands. SSL 2 and 3 are
not compiled in."""
import json
import socket
import ssl
import tempfile
import time
import unittest
import warnings

from tests.e2e.harness import LIMIT, Authority, BranchTest, Connector, LocalBranch, OldTlsServer, configure, make_certificate

USERNAME, PASSWORD = "reader", "pscale_pw_Vq8mT2Lx"


class TlsTest(BranchTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.authority = Authority(cls.folder.name)
        cls.good_pair = cls.authority.issue()
        cls.good = cls.start(cls.good_pair)
        with Connector(cls.config(cls.good)) as connector:
            cls.catalog = connector.catalog

    @classmethod
    def start(cls, pair, *options):
        branch = LocalBranch(
            ["commerce:2"], rows=10, username=USERNAME, password=PASSWORD, tls=pair, options=["--tell-logins", *options]
        )
        cls.addClassCleanup(branch.close)
        return branch

    @classmethod
    def tls(cls, **changes):
        return {"mode": "verify", "ca_certificate": cls.authority.certificate.read_text(), **changes}

    @classmethod
    def config(cls, branch, **changes):
        return branch.config(**{"database": "commerce", "tls": cls.tls(), "max_retries": 0, **changes})

    def client(self, pair):
        return self.tls(client_certificate=pair[0].read_text(), client_key=pair[1].read_text())

    def logins(self, branch):
        """The ports that a login came to; the branch is stopped."""
        branch.stop()
        lines = [json.loads(line) for line in branch.rest().splitlines()]
        return [line["login"] for line in lines if "login" in line]

    def refusals(self, config):
        """What `check` and `read` say; both fail."""
        with Connector(config) as connector:
            started = time.monotonic()
            checked = connector.check()
            read = connector.read(configure(self.catalog), ok=False)
            self.assertLess(time.monotonic() - started, 30)
        self.assertEqual("FAILED", checked.connection_status["status"], checked.explain())
        self.assertEqual(1, read.code, read.explain())
        self.assertEqual(["config_error"], [error["failure_type"] for error in read.errors], read.explain())
        return checked.connection_status["message"], read.errors[0]["message"]

    def assert_works(self, config):
        with Connector(config) as connector:
            checked = connector.check()
            self.assertEqual("SUCCEEDED", checked.connection_status["status"], checked.explain())
            self.assertEqual(10, len(connector.read(configure(self.catalog)).records))


class Refused(TlsTest):
    # Of each fault: what the MySQL port's message says, and what the gRPC port's.
    WORDS = {
        "wrong host name": ("is for another name", "is not made out to"),
        "expired": ("has expired", "has expired"),
        "self-signed": ("is self-signed", "is self-signed"),
        "wrong authority": ("is not signed by a trusted authority", "is signed by an authority that is not among tls.ca_certificate"),
        "old protocol": ("offers only TLS versions that are too old", "offers only TLS versions that are too old"),
        "client certificate missing": ("It may ask for a client certificate", "requires a client certificate"),
        "client certificate of a stranger": ("It may not accept the client certificate", "does not accept the client certificate"),
    }

    def faulty(self, fault):
        """A branch with the fault, and what the configuration says of TLS."""
        tls = self.tls()
        options = []
        pair = self.good_pair
        if fault == "wrong host name":
            pair = self.authority.issue(["DNS:db.example.com"])
        elif fault == "expired":
            pair = self.authority.issue(days=-1)
        elif fault == "self-signed":
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            pair = make_certificate(folder.name)
        elif fault in ("wrong authority", "client certificate of a stranger"):
            folder = tempfile.TemporaryDirectory()
            self.addCleanup(folder.cleanup)
            stranger = Authority(folder.name, "another authority").issue()
            if fault == "wrong authority":
                pair = stranger
            else:
                options = ["--tls-client-ca", self.authority.certificate]
                tls = self.client(stranger)
        elif fault == "old protocol":
            options = ["--tls-old"]
        elif fault == "client certificate missing":
            options = ["--tls-client-ca", self.authority.certificate]
        return self.start(pair, *options), tls

    def test_each_fault_at_the_mysql_port(self):
        told = set()
        for fault, (words, _) in self.WORDS.items():
            with self.subTest(fault=fault):
                branch, tls = self.faulty(fault)
                checked, read = self.refusals(self.config(branch, tls=tls))
                self.assertIn(words, checked)
                self.assertEqual(checked, read)
                self.assertIn(f"127.0.0.1:{branch.mysql_port}", checked)
                self.assertEqual([], self.logins(branch))
                told.add(words)
        self.assertEqual(len(self.WORDS), len(told), "two faults have one message")

    def test_each_fault_at_the_grpc_port(self):
        """The MySQL port is another branch's, which has no fault."""
        told = set()
        for fault, (_, words) in self.WORDS.items():
            with self.subTest(fault=fault):
                if fault == "old protocol":
                    faulty, tls = OldTlsServer(*self.good_pair), self.tls()
                    self.addCleanup(faulty.close)
                    port = faulty.port
                else:
                    faulty, tls = self.faulty(fault)
                    port = faulty.grpc_port
                checked, read = self.refusals(self.config(self.good, port=port, tls=tls))
                self.assertIn(words, checked)
                self.assertEqual(checked, read)
                self.assertIn(f"127.0.0.1:{port}", checked)
                if fault == "old protocol":
                    self.assertEqual(b"", bytes(faulty.said))
                else:
                    self.assertEqual([], self.logins(faulty))
                told.add(words)
        self.assertEqual(len(self.WORDS), len(told), "two faults have one message")

    def test_retries_do_not_hide_which_fault_it_is(self):
        branch = self.start(self.authority.issue(days=-1))
        _, read = self.refusals(self.config(self.good, port=branch.grpc_port, max_retries=1))
        self.assertIn("has expired", read)
        self.assertEqual([], self.logins(branch))

    def test_the_old_servers_do_speak_tls_to_whoever_takes_it(self):
        """That the refusals above are the connector's own doing."""
        old = OldTlsServer(*self.good_pair)
        self.addCleanup(old.close)
        branch = self.start(self.good_pair, "--tls-old")
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")
        for port, greets in ((old.port, False), (branch.mysql_port, True)):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as plain:
                if greets:
                    # MySQL's greeting, and the request for TLS.
                    header = plain.recv(4, socket.MSG_WAITALL)
                    plain.recv(int.from_bytes(header[:3], "little"), socket.MSG_WAITALL)
                    plain.sendall(bytes([32, 0, 0, 1, 0, 0x8A, 0, 0, 0, 0, 0, 1, 45]) + bytes(23))
                with context.wrap_socket(plain, server_hostname="127.0.0.1") as inner:
                    self.assertEqual("TLSv1.1", inner.version())


class Accepted(TlsTest):
    def test_the_right_certificate_and_a_login_at_both_ports(self):
        branch = self.start(self.good_pair)
        self.assert_works(self.config(branch))
        self.assertEqual({"mysql", "grpc"}, set(self.logins(branch)))

    def test_a_client_certificate_at_both_ports(self):
        branch = self.start(self.good_pair, "--tls-client-ca", self.authority.certificate)
        self.assert_works(self.config(branch, tls=self.client(self.authority.issue(["DNS:client"]))))
        self.assertEqual({"mysql", "grpc"}, set(self.logins(branch)))

    def test_another_name_that_is_given(self):
        branch = self.start(self.authority.issue(["DNS:db.example.com"]))
        self.assert_works(self.config(branch, tls=self.tls(server_name="db.example.com")))

    def test_a_self_signed_certificate_that_is_trusted(self):
        with tempfile.TemporaryDirectory() as folder:
            pair = make_certificate(folder)
            branch = self.start(pair)
            self.assert_works(self.config(branch, tls=self.tls(ca_certificate=pair[0].read_text())))


if __name__ == "__main__":
    unittest.main()
