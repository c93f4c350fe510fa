"""Airbyte's contract of a read, message by message, on top of the rules that the harness checks for every read."""
import json
import unittest

from tests.e2e.harness import (
    FORMATS,
    STRICT,
    BranchTest,
    Connector,
    LocalBranch,
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

    def test_progress_never_has_no_info_logs(self):
        quiet = self.reader.read(self.configured, self.first.state_file(), options=["--log-level", "warn"])
        self.assertEqual([], quiet.logs)


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
