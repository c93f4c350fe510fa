"""Airbyte's contract of a read, message by message, on top of the rules that the harness checks for every read."""
import json
import os
import pty
import select
import signal
import time
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import (
    CONNECTOR,
    FORMATS,
    LIMIT,
    STRICT,
    BranchTest,
    Connector,
    LocalBranch,
    Process,
    configure,
    record_stream,
    state_stream,
    stream_of,
)


class ReadMessages(BranchTest):
    @classmethod
    def setUpClass(cls):
        cls.server = LocalBranch(["commerce:4"], tables=3, rows=400, write_rate=3000)
        cls.addClassCleanup(cls.server.close)
        cls.reader = Connector(cls.server.config(checkpoint_interval_seconds=1))
        cls.addClassCleanup(cls.reader.close)
        cls.configured = configure(cls.reader.catalog)
        cls.first = cls.reader.read(cls.configured)
        cls.second = cls.reader.read(cls.configured, cls.first.state_file())

    def test_statuses_and_states_are_in_order(self):
        """S21: STARTED < RUNNING < STATE < COMPLETE for each stream, once each. What is to be copied has a state before its
        first record, too."""
        for transcript, before in ((self.first, ["STATE"]), (self.second, [])):
            order = {}
            for message in transcript.messages:
                if message["type"] == "TRACE" and message["trace"]["type"] == "STREAM_STATUS":
                    trace = message["trace"]["stream_status"]
                    order.setdefault(stream_of(trace["stream_descriptor"]), []).append(trace["status"])
                elif message["type"] == "STATE":
                    events = order[state_stream(message["state"])]
                    if events[-1] != "STATE":
                        events.append("STATE")
            self.assertEqual(3, len(order))
            for stream, events in order.items():
                self.assertEqual(["STARTED", *before, "RUNNING", "STATE", "COMPLETE"], events, stream)

    def test_every_record_has_namespace_stream_and_time(self):
        """S1"""
        for record in self.first.records + self.second.records:
            self.assertEqual("commerce", record["namespace"])
            self.assertIn(record["stream"], ("sbtest1", "sbtest2", "sbtest3"))
            self.assertIsInstance(record["emitted_at"], int)
            self.assertTrue(1_600_000_000_000 < record["emitted_at"] < 10_000_000_000_000)

    def test_every_record_matches_its_schema_strictly(self):
        validators = {
            stream_of(c["stream"]): STRICT(c["stream"]["json_schema"], format_checker=FORMATS)
            for c in self.configured["streams"]
        }
        self.assertTrue(self.first.records)
        for record in self.first.records + self.second.records:
            validators[record_stream(record)].validate(record["data"])
            self.assertEqual(set(validators[record_stream(record)].schema["properties"]), set(record["data"]))

    def test_record_counts_are_numbers_with_a_decimal_point(self):
        raw = [line for line in self.first.lines if b'"type":"STATE"' in line]
        self.assertTrue(raw)
        for line in raw:
            self.assertRegex(line.decode(), r'"recordCount":\d+\.\d')

    def test_no_message_of_another_kind(self):
        kinds = {m["type"] for m in self.first.messages + self.second.messages}
        self.assertEqual({"RECORD", "STATE", "TRACE", "LOG"}, kinds)
        traces = {t["type"] for t in self.first.of("TRACE")}
        self.assertLessEqual(traces, {"STREAM_STATUS", "ESTIMATE"})

    def test_estimates_are_per_stream(self):
        for trace in self.first.of("TRACE"):
            if trace["type"] == "ESTIMATE":
                self.assertEqual("STREAM", trace["estimate"]["type"])
                self.assertEqual("commerce", trace["estimate"]["namespace"])

    def test_standard_error_is_silent_unless_it_is_a_terminal(self):
        self.assertEqual("", self.first.stderr)

    def test_logs_say_why_each_table_is_read_and_sum_up(self):
        text = "\n".join(self.first.logs)
        for table in ("sbtest1", "sbtest2", "sbtest3"):
            self.assertIn(f"commerce.{table}", text)
        self.assertNotIn("WARN", text)

    def test_log_level_warn_has_no_info_logs(self):
        quiet = self.reader.read(self.configured, self.first.state_file(), options=["--log-level", "warn"])
        self.assertEqual([], quiet.logs)


class WatchedRead(Process):
    """A read whose standard error is a terminal or a pipe, and is read along."""

    def __init__(self, connector, configured, progress, terminal=False):
        self.said = bytearray()
        self.end, given = pty.openpty() if terminal else os.pipe()
        arguments = connector.read_arguments(configured, options=["--progress", progress])
        try:
            super().__init__([CONNECTOR, *arguments], config=connector.content, configured=configured, stderr=given)
        finally:
            os.close(given)

    def _listen(self, deadline):
        """False at the end."""
        assert select.select([self.end], [], [], max(0, deadline - time.monotonic()))[0], f"only {bytes(self.said)!r}"
        try:
            more = os.read(self.end, 1 << 12)
        except OSError:  # the end of a terminal that nobody else has open
            more = b""
        self.said += more
        return bool(more)

    def wait_for_error(self, text):
        deadline = time.monotonic() + LIMIT
        while text not in self.said:
            assert self._listen(deadline), f"standard error ended with {bytes(self.said)!r}"

    def stderr(self):
        deadline = time.monotonic() + LIMIT
        while self._listen(deadline):
            pass
        return bytes(self.said)

    def close(self):
        super().close()
        os.close(self.end)


class Progress(FaultTest):
    """Where `--progress` says how far a read is. What it says: tests/actors/progress_test.cpp."""

    def watch(self, *arguments, **options):
        read = WatchedRead(*arguments, **options)
        self.addCleanup(read.close)
        return read

    def assert_no_progress(self, transcript):
        self.assertEqual([], [log for log in transcript.logs if "rows/s" in log])

    def test_a_live_line_on_a_terminal_or_always(self):
        """More rows than the pipes hold: as long as nobody reads them, the reads run. Those that must not show anything run
        first, so that they have had the time to when the others have shown theirs."""
        branch = self.branch(["commerce:2"], rows=30_000)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        silent = [
            self.watch(connector, configured, "never"),
            self.watch(connector, configured, "never", terminal=True),
            self.watch(connector, configured, "auto"),
        ]
        for read in silent:
            read.wait_for_line(b'"type":"RECORD"')
        showing = [
            self.watch(connector, configured, "always"),
            self.watch(connector, configured, "auto", terminal=True),
        ]
        for read in showing:
            read.wait_for_error(b"rows/s")
        for read in silent + showing:
            transcript = read.transcript()  # of Airbyte's messages alone
            self.assertEqual(0, transcript.code, transcript.explain())
            self.assertEqual(30_000, len(transcript.records))
            self.assert_no_progress(transcript)
            if read in silent:
                self.assertEqual("", transcript.stderr)
            else:
                # Each line takes the place of the one before, and none is left.
                self.assertRegex(transcript.stderr, r"^(\r\x1b\[K[0-9,]+ rows \([^\r\n]+\.)+\r\x1b\[K$")

    def test_a_log_message_each_minute_unless_never(self):
        """The read that must not tell anything runs first; both stand still until they are ended. (Without heartbeats they
        would begin anew after a minute.)"""
        stall = {"do": "stall", "phase": "copy", "rows": 1500, "repeat": 2, "heartbeats": True}
        connector = self.connector(self.faulty([stall], ["commerce:1"], rows=6000).config(timeout_seconds=600))
        configured = configure(connector.catalog)
        silent = self.watch(connector, configured, "never")
        silent.wait_for_line(b'"type":"RECORD"')
        telling = self.watch(connector, configured, "auto")
        telling.wait_for_line(b"rows/s", limit=90)
        for read in (silent, telling):
            read.signal(signal.SIGTERM)
        told, untold = telling.transcript(), silent.transcript()
        self.assertRegex("\n".join(told.logs), r"(?m)^INFO [0-9,]+ rows \(.+waiting for the server\.$")
        self.assert_no_progress(untold)
        for transcript in (told, untold):
            self.assertEqual("", transcript.stderr)
            self.assertEqual(-signal.SIGTERM, transcript.code, transcript.explain())


class Catalogs(BranchTest):
    @classmethod
    def setUpClass(cls):
        cls.server = LocalBranch(["commerce:1"], tables=1, rows=20)
        cls.addClassCleanup(cls.server.close)
        cls.reader = Connector(cls.server.config())
        cls.addClassCleanup(cls.reader.close)

    def changed(self, change, **options):
        configured = json.loads(json.dumps(configure(self.reader.catalog, **options)))
        change(configured["streams"][0])
        return configured

    def read(self, configured, **options):
        transcript = self.reader.read(configured, ok=False, **options)
        self.assertEqual(0, transcript.code, transcript.explain())
        self.assertEqual(20, len(transcript.records))
        return transcript

    def test_explicit_nulls_are_tolerated(self):
        self.read(configure(self.reader.catalog, nulls=True))

    def test_only_chosen_columns_are_delivered(self):
        def change(stream):
            properties = stream["stream"]["json_schema"]["properties"]
            for name in ("c", "pad"):
                del properties[name]

        for record in self.read(self.changed(change)).records:
            self.assertEqual({"id", "k", "_ab_cdc_cursor", "_ab_cdc_updated_at", "_ab_cdc_deleted_at"}, set(record["data"]))

    def test_a_column_that_is_gone_is_left_out(self):
        def change(stream):
            stream["stream"]["json_schema"]["properties"]["dropped"] = {"type": ["null", "string"]}

        for record in self.read(self.changed(change)).records:
            self.assertNotIn("dropped", {k for k, v in record["data"].items() if v is not None})

    def test_a_connection_of_the_older_connector_gets_no_new_columns(self):
        """Its catalog has no CDC columns and the primary key as cursor: a warning with the cure, and only its columns."""

        def change(stream):
            properties = stream["stream"]["json_schema"]["properties"]
            for name in [n for n in properties if n.startswith("_ab_cdc")]:
                del properties[name]
            stream["cursor_field"] = ["id"]

        transcript = self.read(self.changed(change))
        for record in transcript.records:
            self.assertEqual({"id", "k", "c", "pad"}, set(record["data"]))
        warnings = [log for log in transcript.logs if log.startswith("WARN")]
        self.assertTrue(any("cursor" in w for w in warnings), transcript.explain())

    def test_a_stream_without_namespace_belongs_to_the_only_keyspace(self):
        def change(stream):
            del stream["stream"]["namespace"]

        self.read(self.changed(change))

    def test_tables_of_a_keyspace_that_is_not_configured(self):
        def change(stream):
            stream["stream"]["namespace"] = "elsewhere"

        transcript = self.reader.read(self.changed(change), ok=False)
        self.assertEqual(1, transcript.code, transcript.explain())
        self.assertEqual("config_error", transcript.errors[0]["failure_type"])
        self.assertIn("elsewhere", transcript.errors[0]["message"])

    def test_an_empty_catalog_ends_at_once(self):
        transcript = self.reader.read({"streams": []}, ok=False)
        self.assertEqual([], transcript.records)
        self.assertIn(transcript.code, (0, 1))
        if transcript.code == 1:
            self.assertEqual("config_error", transcript.errors[0]["failure_type"])


if __name__ == "__main__":
    unittest.main()
