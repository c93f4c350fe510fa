"""Every error path of every command: only Airbyte messages on standard output, the right failure type, no secrets."""
import base64
import json
import os
import pathlib
import signal
import tempfile
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import (
    CONNECTOR,
    Authority,
    Connector,
    LocalBranch,
    Process,
    Relay,
    SilentServer,
    configure,
    make_certificate,
)
from tests.e2e.rules import check_no_secret, spellings

PASSWORD = "pscale_pw_9xYz%24'\"\\"
USERNAME = "reader"
LEVELS = ("fatal", "error", "warn", "info", "debug", "trace")


class ErrorTest(FaultTest):
    @classmethod
    def setUpClass(cls):
        cls.server = LocalBranch(["commerce:2"], tables=2, rows=20, username=USERNAME, password=PASSWORD)
        cls.addClassCleanup(cls.server.close)
        cls.main = Connector(cls.server.config())
        cls.addClassCleanup(cls.main.close)
        cls.catalog = cls.main.catalog

    def assert_config_error(self, transcript, *words):
        """One TRACE ERROR of type config_error, exit 1; its sentence has the words."""
        self.assertEqual(1, transcript.code, transcript.explain())
        self.assertEqual(1, len(transcript.errors), transcript.explain())
        error = transcript.errors[0]
        self.assertEqual("config_error", error["failure_type"], error)
        self.assertRegex(error["message"], r"[.!]$")
        for word in words:
            self.assertIn(word.lower(), error["message"].lower())
        self.assertEqual([], transcript.records)
        return error


class InputFiles(ErrorTest):
    COMMANDS = ("check", "discover", "read")

    def run_with(self, command, config=None, catalog=None, state=None):
        arguments = ["--config", config or self.main.config]
        if command == "read":
            arguments += ["--catalog", catalog or self.main.file(configure(self.catalog))]
            if state is not None:
                arguments += ["--state", state]
        return self.main.run(command, *arguments)

    def test_config_file_missing(self):
        for command in self.COMMANDS:
            with self.subTest(command=command):
                self.assert_config_error(self.run_with(command, config="/nonexistent/config.json"), "/nonexistent/config.json")

    def test_config_is_a_folder(self):
        for command in self.COMMANDS:
            with self.subTest(command=command):
                self.assert_config_error(self.run_with(command, config="/tmp"), "/tmp")

    def test_config_is_not_json(self):
        for command in self.COMMANDS:
            for text in ("", "{", "not json", '{"host": "a",}', "\xff\xfe", "[" * 100000, '{"a":1} x'):
                with self.subTest(command=command, text=text[:20]):
                    transcript = self.run_with(command, config=self.main.file(text))
                    if command == "check" and transcript.code == 0:
                        self.assertEqual("FAILED", transcript.connection_status["status"])
                    else:
                        self.assert_config_error(transcript, "configuration")

    def test_config_has_the_wrong_shape(self):
        for command in ("discover", "read"):
            for value in ([], 1, "text", None, {}, {"host": 5}, {"host": "h", "database": ["a"]}):
                with self.subTest(command=command, value=value):
                    self.assert_config_error(self.run_with(command, config=self.main.file(json.dumps(value))))

    def test_option_without_file(self):
        self.assert_config_error(self.main.run("check"), "--config")
        self.assert_config_error(self.main.run("discover"), "--config")
        self.assert_config_error(self.main.run("read"), "--config")
        self.assert_config_error(self.main.run("read", "--config", self.main.config), "--catalog")

    def test_catalog_file_missing_or_no_json(self):
        self.assert_config_error(self.run_with("read", catalog="/nonexistent/catalog.json"), "/nonexistent/catalog.json")
        for text in ("", "{", "[]", "null", '{"streams": 5}', '{"streams": [5]}', '{"streams": [{}]}'):
            with self.subTest(text=text):
                self.assert_config_error(self.run_with("read", catalog=self.main.file(text)), "catalog")

    def test_unknown_sync_mode(self):
        catalog = configure(self.catalog)
        catalog["streams"][0]["sync_mode"] = "INVALID"
        error = self.assert_config_error(self.run_with("read", catalog=self.main.file(catalog)), "sync_mode", "INVALID")
        self.assertIn("sbtest1", error["message"])

    def test_state_file_missing_or_garbage(self):
        self.assert_config_error(self.run_with("read", state="/nonexistent/state.json"), "/nonexistent/state.json")
        cursor = {"shards": {"-80": {"cursor": "!!! no base64"}}}
        descriptor = {"name": "sbtest1", "namespace": "commerce"}
        for text in (
            "{",
            "5",
            '"text"',
            "[5]",
            '[{"type": "GLOBAL"}]',
            json.dumps([{"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": cursor}}]),
            json.dumps([{"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": {"packed": "eA=="}}}]),
            json.dumps([{"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": {"shards": []}}}]),
        ):
            with self.subTest(text=text[:120]):
                self.assert_config_error(self.run_with("read", state=self.main.file(text)), "state")

    def test_server_gone(self):
        with Connector(self.server.config(mysql_port=self.closed_port(), max_retries=0)) as connector:
            for command in ("discover", "read"):
                with self.subTest(command=command):
                    arguments = ["--config", connector.config]
                    if command == "read":
                        arguments += ["--catalog", connector.file(configure(self.catalog))]
                    transcript = connector.run(command, *arguments)
                    self.assertEqual(1, transcript.code, transcript.explain())
                    self.assertEqual(1, len(transcript.errors), transcript.explain())
                    self.assertIn("mysql_port", transcript.errors[0]["message"])

    def test_unknown_keyspace_and_shard_fail_discover_and_read(self):
        for changes, word in (({"database": "nosuch"}, "nosuch"), ({"shards": "-40"}, "-40")):
            with Connector(self.server.config(**changes)) as connector:
                self.assert_config_error(connector.run("discover", "--config", connector.config), word)
                arguments = ("--config", connector.config, "--catalog")
                if "shards" in changes:
                    read = connector.run("read", *arguments, connector.file(configure(self.catalog)))
                    self.assert_config_error(read, word)


class MissingTables(ErrorTest):
    def with_stranger(self, mode):
        catalog = json.loads(json.dumps(configure(self.catalog, mode)))
        stranger = json.loads(json.dumps(catalog["streams"][0]))
        stranger["stream"]["name"] = "dropped"
        catalog["streams"].append(stranger)
        return catalog

    def test_incremental_goes_on_without_a_dropped_table(self):
        transcript = self.main.read(self.with_stranger("incremental"), ok=False)
        self.assertEqual(0, transcript.code, transcript.explain())
        self.assertEqual([], transcript.errors)
        self.assertTrue(any("WARN" in log and "dropped" in log for log in transcript.logs), transcript.explain())
        self.assertEqual(40, len(transcript.records))
        last = dict(transcript.statuses)
        self.assertEqual("COMPLETE", last[("commerce", "dropped")])

    def test_full_refresh_of_a_dropped_table_is_incomplete_and_the_others_are_read(self):
        transcript = self.main.read(self.with_stranger("full_refresh"), ok=False)
        self.assertEqual(1, transcript.code, transcript.explain())
        self.assertEqual(1, len(transcript.errors), transcript.explain())
        self.assertEqual({"name": "dropped", "namespace": "commerce"}, transcript.errors[0]["stream_descriptor"])
        self.assertEqual("config_error", transcript.errors[0]["failure_type"])
        self.assertEqual(40, len(transcript.records))
        last = dict(transcript.statuses)
        self.assertEqual("INCOMPLETE", last[("commerce", "dropped")])
        self.assertEqual("COMPLETE", last[("commerce", "sbtest1")])

    def test_no_table_left_is_a_config_error(self):
        catalog = self.with_stranger("incremental")
        catalog["streams"] = catalog["streams"][-1:]
        transcript = self.main.read(catalog, ok=False)
        self.assertEqual(1, transcript.code, transcript.explain())
        self.assertEqual("config_error", transcript.errors[0]["failure_type"])
        self.assertIn("dropped", transcript.errors[0]["message"])


class CommandLine(ErrorTest):
    def run_plain(self, *arguments):
        with Process([CONNECTOR, *arguments]) as process:
            output = process.rest()
            return process.process.returncode, output.decode(), process.stderr().decode()

    def test_help_shows_every_command_with_an_example(self):
        code, output, _ = self.run_plain("--help")
        self.assertEqual(0, code)
        for command in ("spec", "check", "discover", "read"):
            self.assertIn(f"source-planetscale {command}", output)
        for option in ("--config", "--catalog", "--state", "--progress", "--log-level", "--version"):
            self.assertIn(option, output)

    def test_version(self):
        code, output, _ = self.run_plain("--version")
        self.assertEqual(0, code)
        self.assertRegex(output, r"\b\d+\.\d+\.\d+\b")

    def test_wrong_usage_says_so_on_standard_error_only(self):
        for arguments in (
            [],
            ["reed"],
            ["read", "--colour"],
            ["--log-level", "loud", "spec"],
            ["spec", "check"],
            ["spec", "--progress", "x"],
        ):
            with self.subTest(arguments=arguments):
                code, output, errors = self.run_plain(*arguments)
                self.assertGreater(code, 0)
                self.assertEqual("", output)
                self.assertIn("--help", errors)


class Habits(ErrorTest):
    """What users of planetscale/airbyte-source have around their connector."""

    def test_variables_of_a_proxy_have_no_effect(self):
        nobody = f"http://127.0.0.1:{self.closed_port()}"
        proxies = {name: nobody for name in ("grpc_proxy", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
        environment = {**os.environ, **proxies, "no_proxy": "", "NO_PROXY": ""}
        for command in ("check", "discover", "read"):
            arguments = ["--config", self.main.config]
            if command == "read":
                arguments += ["--catalog", self.main.file(configure(self.catalog))]
            with self.subTest(command=command):
                with Process([CONNECTOR, command, *arguments], env=environment, config=self.main.content) as process:
                    transcript = process.transcript()
                self.assertEqual(0, transcript.code, transcript.explain())
                if command == "check":
                    self.assertEqual("SUCCEEDED", transcript.connection_status["status"])

    def test_a_state_without_a_name_is_none_and_is_told(self):
        arguments = ["--config", self.main.config, "--catalog", self.main.file(configure(self.catalog))]
        for state in (["--state", ""], ["--state="]):
            with self.subTest(state=state), Process([CONNECTOR, "read", *arguments, *state], config=self.main.content) as process:
                transcript = process.transcript()
                self.assertEqual(0, transcript.code, transcript.explain())
                self.assertEqual(40, len(transcript.records))
                self.assertTrue([line for line in transcript.logs if "--state names no file" in line], transcript.logs)


class TransportLog(ErrorTest):
    """gRPC's own lines come as LOG messages of the level DEBUG, or not at all; never as they are."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        authority = Authority(cls.folder.name)
        cls.ca = authority.certificate.read_text()
        cls.good = LocalBranch(["commerce:1"], tables=2, rows=5, tls=authority.issue())
        cls.addClassCleanup(cls.good.close)
        cls.expired = LocalBranch(["commerce:1"], rows=5, tls=authority.issue(days=-1))
        cls.addClassCleanup(cls.expired.close)

    def lines(self, command, level, environment):
        # The handshake that names faults goes well, those of gRPC do not: gRPC logs that.
        first = self.good.grpc_port if command == "check" else None
        relay = Relay(self.expired.grpc_port, first)
        self.addCleanup(relay.close)
        config = self.good.config(port=relay.port, tls={"mode": "verify", "ca_certificate": self.ca}, max_retries=1)
        with Connector(config, self.catalog) as connector:
            arguments = ["--config", connector.config, "--log-level", level]
            if command == "read":
                arguments += ["--catalog", connector.file(configure(self.catalog))]
            with Process([CONNECTOR, command, *arguments], env={**os.environ, **environment}, config=config) as process:
                transcript = process.transcript()
        self.assertEqual("", transcript.stderr)
        return [log for log in transcript.logs if "gRPC: " in log]

    def test_lines_of_grpc_are_log_messages(self):
        for command in ("check", "read"):
            for environment in ({}, {"GRPC_VERBOSITY": "DEBUG"}, {"GRPC_VERBOSITY": "ERROR"}):
                with self.subTest(command=command, environment=environment):
                    lines = self.lines(command, "debug", environment)
                    self.assertTrue(lines, "gRPC said nothing")
                    for line in lines:
                        self.assertRegex(line, r"^DEBUG gRPC: .*[Hh]andshake")

    def test_below_debug_they_are_dropped(self):
        for command in ("check", "read"):
            with self.subTest(command=command):
                self.assertEqual([], self.lines(command, "info", {"GRPC_VERBOSITY": "DEBUG"}))


class Secrets(ErrorTest):
    """The harness looks for password, key and header in every transcript of every test; here they are provoked."""

    def assert_hidden(self, process):
        transcript = process.transcript()
        check_no_secret([transcript.output.decode() + transcript.stderr], spellings({"username": USERNAME, "password": PASSWORD}))
        return transcript

    def every_command(self, connector, catalog, level):
        for command in ("spec", "check", "discover", "read"):
            arguments = [] if command == "spec" else ["--config", connector.config]
            if command == "read":
                arguments += ["--catalog", connector.file(configure(catalog))]
            with self.subTest(level=level, command=command):
                transcript = connector.run(command, *arguments, "--log-level", level)
                self.assertEqual(0, transcript.code, transcript.explain())

    def test_password_and_header_are_in_no_output_at_any_log_level(self):
        for level in LEVELS:
            self.every_command(self.main, self.catalog, level)

    def test_client_key_is_in_no_output_at_any_log_level(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        certificate, key = make_certificate(folder.name)
        branch = self.branch(["commerce:1"], rows=5, username=USERNAME, password=PASSWORD, tls=(certificate, key))
        pair = {"client_certificate": certificate.read_text(), "client_key": key.read_text()}
        connector = self.connector(branch.config(tls={"mode": "verify", "ca_certificate": certificate.read_text(), **pair}))
        self.assertTrue([s for s in spellings(connector.content) if s in key.read_text()], "the lines of the key are sought")
        for level in LEVELS:
            self.every_command(connector, connector.catalog, level)

    def test_what_a_server_repeats_of_the_login_is_masked(self):
        """In errors of peeks and streams, in warnings and in internal messages."""
        header = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        words = f"denied: {USERNAME}:{PASSWORD}, quoted {json.dumps(PASSWORD)}, authorization: Basic {header}, {header.rstrip('=')}."
        for phase, code in (("peek", "UNKNOWN"), ("copy", "UNKNOWN"), ("copy", "UNAUTHENTICATED"), ("copy", "UNAVAILABLE")):
            with self.subTest(phase=phase, code=code):
                fault = {"do": "status", "phase": phase, "code": code, "message": words, "repeat": 20}
                branch = self.faulty([fault], ["commerce:1"], rows=5, username=USERNAME, password=PASSWORD)
                connector = self.connector(branch.config(max_retries=1))
                transcript = connector.read(ok=False, options=["--log-level", "trace"])
                self.assertEqual(1, transcript.code)
                error = transcript.errors[0]
                for text in (error["message"], error["internal_message"]):
                    self.assertIn(f"denied: {USERNAME}:****, quoted \"****\", authorization: Basic ****, ****.", text)

    # gRPC then tells of every frame that it sends, headers with a login included.
    MOST_VERBOSE = {"GRPC_VERBOSITY": "DEBUG", "GRPC_TRACE": "all"}

    def test_what_others_see_of_the_program_while_it_runs(self):
        """Its arguments, its environment, the names of its threads: no login, and no other process."""
        silent = SilentServer()
        self.addCleanup(silent.close)
        stalled = self.faulty(
            [{"do": "stall", "phase": "copy", "repeat": 100}], ["commerce:1"], rows=5, username=USERNAME, password=PASSWORD
        )
        cases = (
            ("check", self.server.config(port=silent.port), silent.next_connection),
            ("discover", self.server.config(mysql_port=silent.port), silent.next_connection),
            ("read", stalled.config(), lambda: self.wait_for(stalled, "fault", "stall")),
        )
        for command, config, wait in cases:
            with self.subTest(command=command), Connector(config, self.catalog) as connector:
                arguments = ["--config", connector.config, "--log-level", "trace"]
                if command == "read":
                    arguments += ["--catalog", connector.file(configure(self.catalog, only=["sbtest1"]))]
                environment = {**os.environ, **self.MOST_VERBOSE}
                with Process([CONNECTOR, command, *arguments], env=environment, config=config) as process:
                    wait()
                    proc = pathlib.Path("/proc") / str(process.process.pid)
                    tasks = list((proc / "task").iterdir())
                    seen = [(proc / name).read_bytes() for name in ("cmdline", "environ", "comm", "status")]
                    seen += [(task / "comm").read_bytes() for task in tasks]
                    children = [(task / "children").read_text() for task in tasks]
                    process.signal(signal.SIGTERM)
                    transcript = self.assert_hidden(process)
                self.assertEqual("", "".join(children))
                self.assertIn(str(connector.config).encode(), seen[0], "these are the arguments")
                check_no_secret([text.decode("utf-8", "replace") for text in seen], spellings(config))
                self.assertEqual("", transcript.stderr)

    def test_a_transport_that_tells_everything_tells_no_login(self):
        """gRPC's traces hold the headers of each call; not a line of them may come out, at any log level."""
        for command in ("check", "read"):
            arguments = ["--config", self.main.config, "--log-level", "trace"]
            if command == "read":
                arguments += ["--catalog", self.main.file(configure(self.catalog))]
            environment = {**os.environ, **self.MOST_VERBOSE}
            with self.subTest(command=command):
                with Process([CONNECTOR, command, *arguments], env=environment, config=self.main.content) as process:
                    transcript = self.assert_hidden(process)
                self.assertEqual(0, transcript.code, transcript.explain())
                self.assertEqual("", transcript.stderr)

    def test_password_is_in_no_error(self):
        broken = (
            self.server.config(username="someone"),
            self.server.config(port=self.closed_port()),
            self.server.config(mysql_port=self.closed_port()),
            self.server.config(host=f"{USERNAME}:{PASSWORD}@127.0.0.1"),
            self.server.config(tls={"mode": "verify", "client_key": PASSWORD}),
            self.server.config(timeout_seconds="x"),
            # Pasted into the wrong field.
            self.server.config(host=f"https://{PASSWORD}.example"),
            self.server.config(host="a.psdb.cloud", username=f"someone:{PASSWORD}"),
            self.server.config(database=f"mysql://someone:{PASSWORD}@a.example/shop"),
            self.server.config(database=f"mysql://someone:{PASSWORD}@a.example/shop", password=""),
            self.server.config(database="a/" * 36 + PASSWORD),
            self.server.config(shards=f"a/{PASSWORD}/b"),
            self.server.config(use_replica=PASSWORD),
            self.server.config(starting_gtids={"commerce": {"-": "a" * 60 + PASSWORD}}),
            self.server.config(starting_gtids={"commerce": {"-": f"mysql://someone:{PASSWORD}@a.example/shop"}}),
            self.server.config(max_retries=PASSWORD),
        )
        for config in broken:
            for command in ("check", "discover"):
                with self.subTest(command=command, config=config), Connector(config) as connector:
                    with connector.start(command, "--config", connector.config, "--log-level", "trace") as process:
                        self.assert_hidden(process)
            with Connector(json.dumps(config)[:-1]) as connector:
                with connector.start("check", "--config", connector.config) as process:
                    self.assert_hidden(process)


if __name__ == "__main__":
    unittest.main()
