"""The rules of Airbyte's connector acceptance tests for discovery, read, full refresh and incremental, on a branch with
sysbench tables and one with every type. (Those for spec are in test_spec; statuses, counts and schemas are checked of
every read, see harness and rules.)"""
import collections
import json
import unittest

import jsonschema

from tests.e2e.faults import FaultTest
from tests.e2e.harness import (
    RECORDINGS,
    Connector,
    LocalBranch,
    configure,
    cursors_of,
    move_cursors,
    record_stream,
    state_stream,
    stream_of,
)


# One copied response of vtgate holds at most about this many rows.
ROWS_OF_A_RESPONSE = 1500


def content(record):
    """What two reads have to agree on; the cursor and the time of a snapshot are of the read."""
    data = {k: v for k, v in record["data"].items() if not k.startswith("_ab_cdc_")}
    return (record_stream(record), json.dumps(data, sort_keys=True))


def whole(record):
    return (record_stream(record), json.dumps(record["data"], sort_keys=True))


def without_namespace(states):
    """As the acceptance tests build them: the descriptor is the name alone."""
    return [
        {"type": "STREAM", "stream": {"stream_descriptor": {"name": state_stream(s)[1]}, "stream_state": s["stream"]["stream_state"]}}
        for s in states
    ]


def walk(schema):
    yield schema
    for part in schema.values():
        for child in part if isinstance(part, list) else [part]:
            if isinstance(child, dict):
                yield from walk(child)


class AcceptanceTest(FaultTest):
    @classmethod
    def setUpClass(cls):
        cls.server = LocalBranch(["commerce:2"], tables=2, rows=120, options=["--all-types"])
        cls.addClassCleanup(cls.server.close)
        cls.reader = Connector(cls.server.config(max_streams=1))
        cls.addClassCleanup(cls.reader.close)
        cls.configured = configure(cls.reader.catalog)


class Discovery(AcceptanceTest):
    def catalogs(self):
        yield self.reader.catalog
        for name, keyspace in (("copy_then_dml_unsharded", "unsharded"), ("charsets_generated", "unsharded")):
            branch = self.branch(replay=[RECORDINGS / f"{name}.vstream"])
            yield self.connector(branch.config(database=keyspace)).catalog

    def test_every_stream(self):
        for catalog in self.catalogs():
            names = [s["name"] for s in catalog["streams"]]
            self.assertEqual(len(names), len(set(names)))
            self.assertTrue(names)
            for stream in catalog["streams"]:
                with self.subTest(stream=stream["name"]):
                    schema = stream["json_schema"]
                    jsonschema.Draft7Validator.check_schema(schema)
                    for part in walk(schema):
                        self.assertEqual(set(), {"$ref", "allOf", "not"} & set(part))
                        self.assertIs(True, part.get("additionalProperties", True))
                    self.assertTrue(stream["supported_sync_modes"])
                    self.assertTrue(stream["source_defined_cursor"], "is_resumable needs it")
                    for field in stream["default_cursor_field"]:
                        self.assertIn(field, schema["properties"])
                    for path in stream["source_defined_primary_key"]:
                        kinds = schema["properties"][path[0]]["type"]
                        self.assertEqual(set(), {"object", "array"} & set(kinds))

    def test_every_property_has_an_airbyte_type(self):
        """Types are a list of one, or of null and one; formats and airbyte_types are those of Airbyte's documentation."""
        known = {
            ("string", None, None),
            ("string", "date", None),
            ("string", "time", "time_without_timezone"),
            ("string", "date-time", "timestamp_with_timezone"),
            ("string", "date-time", "timestamp_without_timezone"),
            ("number", None, None),
            ("number", None, "integer"),
            ("boolean", None, None),
            ("array", None, None),
        }
        seen = set()
        for catalog in self.catalogs():
            for stream in catalog["streams"]:
                for name, part in stream["json_schema"]["properties"].items():
                    kinds = [k for k in part["type"] if k != "null"]
                    self.assertEqual(1, len(kinds), name)
                    seen.add((kinds[0], part.get("format"), part.get("airbyte_type")))
        self.assertEqual(known, seen)


class BasicRead(AcceptanceTest):
    def test_records_and_keys(self):
        transcript = self.reader.read(self.configured)
        self.assertEqual({stream_of(c["stream"]) for c in self.configured["streams"]}, {record_stream(r) for r in transcript.records})
        for record in transcript.records:
            self.assertIsNotNone(record["data"]["id"])
        self.assertGreaterEqual(len(transcript.states), len(self.configured["streams"]))

    def test_a_read_as_discovery_offers_it(self):
        """Full refresh and append_dedup with explicit nulls, as the CDK's standard tests configure it."""
        configured = configure(self.reader.catalog, "full_refresh", nulls=True, destination_sync_mode="append_dedup")
        self.assertEqual(3 * 120, len(self.reader.read(configured).records))

    def test_bad_catalogs_give_a_trace_error_and_nothing_else(self):
        good = self.configured["streams"][0]

        def changed(stream=None, **entry):
            return {"streams": [{**good, "stream": {**good["stream"], **(stream or {})}, **entry}]}

        nonsense = changed({"name": "__no_such_stream__"}, sync_mode="INVALID", destination_sync_mode="INVALID")
        bad = {
            "unknown stream, invalid modes": nonsense,
            "unknown stream": changed({"name": "__no_such_stream__"}),
            "unknown stream, full refresh": changed({"name": "__no_such_stream__"}, sync_mode="full_refresh"),
            "unknown keyspace": changed({"namespace": "elsewhere"}),
            "invalid sync mode": changed(sync_mode="INVALID"),
            "no sync mode": changed(sync_mode=None),
            "a number as sync mode": changed(sync_mode=1),
            "no schema": changed({"json_schema": None}),
            "a text as schema": changed({"json_schema": "object"}),
            "a list as properties": changed({"json_schema": {"properties": []}}),
            "no name": changed({"name": None}),
            "an empty name": changed({"name": ""}),
            "a cursor field that is none": changed(cursor_field="id"),
            "a primary key that is none": changed(primary_key=["id"]),
            "a generation that is none": changed(generation_id="first"),
            "twice the same stream": {"streams": [good, good]},
            "no stream": {"streams": []},
            "no list": {"streams": {}},
            "no object": [],
        }
        for name, catalog in bad.items():
            with self.subTest(catalog=name):
                arguments = ["--config", self.reader.config, "--catalog", self.reader.file(catalog)]
                transcript = self.reader.run("read", *arguments)
                self.assertEqual(1, transcript.code, transcript.explain())
                self.assertGreaterEqual(len(transcript.errors), 1)
                self.assertEqual({"config_error"}, {e["failure_type"] for e in transcript.errors})
                self.assertEqual([], transcript.records)
                self.assertNotIn("COMPLETE", [status for _, status in transcript.statuses])


class FullRefresh(AcceptanceTest):
    def test_two_reads_give_the_same_records_and_the_second_ones_are_emitted_later(self):
        configured = configure(self.reader.catalog, "full_refresh")
        first, second = self.reader.read(configured), self.reader.read(configured)
        self.assertEqual(360, len(first.records))
        self.assertEqual(collections.Counter(map(content, first.records)), collections.Counter(map(content, second.records)))
        self.assertLess(max(r["emitted_at"] for r in first.records), min(r["emitted_at"] for r in second.records))

    def test_an_interrupted_refresh_goes_on_within_its_generation_and_starts_over_in_a_new_one(self):
        """From each state of a read: with the same generation and sync the remaining rows, with others all of them."""
        marks = {"generation_id": 4, "minimum_generation_id": 4, "sync_id": 9}
        configured = configure(self.reader.catalog, "full_refresh", **marks)
        read = self.reader.read(configured)
        rows = collections.Counter(map(content, read.records))
        checked = 0
        for state, remaining in remaining_after_each_state(read, content):
            again = self.reader.read(configured, state)
            self.assertEqual(remaining, collections.Counter(map(content, again.records)))
            checked += sum(remaining.values()) < 360
        self.assertGreaterEqual(checked, 3)
        for change in ({"generation_id": 5}, {"sync_id": 10}):
            others = configure(self.reader.catalog, "full_refresh", **{**marks, **change})
            again = self.reader.read(others, read.state_file())
            self.assertEqual(rows, collections.Counter(map(content, again.records)))

    def test_what_can_be_resumed_is_declared_so(self):
        branch = self.branch(replay=[RECORDINGS / "copy_then_dml_unsharded.vstream"])
        catalog = self.connector(branch.config(database="unsharded")).catalog
        for stream in self.reader.catalog["streams"] + catalog["streams"]:
            self.assertEqual(bool(stream["source_defined_primary_key"]), stream["is_resumable"], stream["name"])


def remaining_after_each_state(transcript, by):
    """For each state of a read: the states so far, one per stream, and what came behind them (a Counter)."""
    last, delivered = {}, collections.defaultdict(list)
    found = []
    for message in transcript.messages:
        if message["type"] == "RECORD":
            delivered[record_stream(message["record"])].append(message["record"])
        elif message["type"] == "STATE":
            state = message["state"]
            last[state_stream(state)] = (state, len(delivered[state_stream(state)]))
            found.append(dict(last))
    for states in found:
        behind = collections.Counter()
        for stream, records in delivered.items():
            behind.update(map(by, records[states[stream][1] if stream in states else 0 :]))
        yield [state for state, _ in states.values()], behind


class Incremental(AcceptanceTest):
    def assert_sequential(self, connector, configured, read, by, ahead=(), least=3, repeats=0):
        """Read again from each state of a read, without namespaces: exactly what came behind the state comes again, and at
        most `repeats` records that came before it."""
        partial = 0
        for states, remaining in remaining_after_each_state(read, by):
            known = {state_stream(s) for s in states}
            states += [s for s in ahead if state_stream(s) not in known]
            again = connector.read(configured, without_namespace(states))
            found = collections.Counter(map(by, again.records))
            self.assertEqual(collections.Counter(), remaining - found, "a record is missing")
            self.assertLessEqual(sum((found - remaining).values()), repeats)
            partial += 0 < sum(remaining.values()) < len(read.records)
        self.assertGreaterEqual(partial, least)
        self.assertEqual([], again.records, "nothing remains behind the last states")

    def test_sequential_states_of_many_tables(self):
        self.assert_sequential(self.reader, self.configured, self.reader.read(self.configured), content, least=2)

    def test_sequential_states_of_a_copy(self):
        """A slow copy with a state each second, also in the middle of a table. A state stands behind the last whole response
        of each shard; here responses arrive in pieces."""
        slow = {"do": "trickle", "phase": "copy", "ms": 300, "events": 200, "repeat": 2}
        branch = self.faulty([slow], ["commerce:2"], rows=6000)
        connector = self.connector(branch.config(checkpoint_interval_seconds=1))
        configured = configure(connector.catalog)
        read = connector.read(configured)
        self.assertTrue(any(c.lastpk is not None for s in read.states for c in cursors_of(s).values()))
        self.assert_sequential(connector, configured, read, content, repeats=2 * ROWS_OF_A_RESPONSE)

    def test_sequential_states_of_changes(self):
        """A slow stream of changes with a state each second. What comes again is the same in every column, cursors
        included."""
        slow = {"do": "trickle", "phase": "binlog", "ms": 120, "events": 25, "on_signal": True, "repeat": 2}
        branch = self.faulty([slow], ["commerce:2"], tables=2, rows=200)
        connector = self.connector(branch.config(checkpoint_interval_seconds=1))
        configured = configure(connector.catalog)
        ahead = connector.read(configured).state_file()
        branch.burst()
        written = []
        self.read_until_quiet(connector, configured, ahead, written)
        self.let_begin(branch, "trickle")
        slowly = connector.read(configured, ahead)
        self.assertEqual(sum(len(t.records) for t in written), len(slowly.records))
        self.assert_sequential(connector, configured, slowly, whole, ahead)

    def test_two_reads_in_sequence_differ(self):
        branch = self.branch(["commerce:2"], rows=50, write_burst=100)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        first = connector.read(configured)
        branch.burst()
        second = connector.read(configured, without_namespace(first.state_file()))
        self.assertTrue(first.records and second.records and second.states)
        self.assertEqual(set(), set(map(whole, first.records)) & set(map(whole, second.records)))

    def test_an_abnormal_future_state_brings_no_record_and_a_state(self):
        """Positions that were never reached: told as such, nothing is read, the state is given back."""
        state = self.reader.read(self.configured).state_file()
        text = json.dumps(state)
        for entry in state:
            move_cursors(entry, lambda position: position.rsplit(":", 1)[0] + ":1-999999999999")
        self.assertNotEqual(text, json.dumps(state))
        transcript = self.reader.read(self.configured, without_namespace(state), ok=False)
        self.assertEqual([], transcript.records)
        self.assertEqual(3, len({state_stream(s) for s in transcript.states}), transcript.explain())
        self.assertEqual(3, len(transcript.errors))
        self.assertEqual({"config_error"}, {e["failure_type"] for e in transcript.errors})
        self.assertEqual({"INCOMPLETE"}, set(dict(transcript.statuses).values()))

    def test_a_far_cursor_column_is_gone_on_from(self):
        """A cdc_cursor of the future is only a number to go on above."""
        branch = self.branch(["commerce:1"], rows=20, write_burst=100)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        state = connector.read(configured).state_file()
        far = 4_000_000_000_000_000
        for entry in state:
            for shard in entry["stream"]["stream_state"]["shards"].values():
                shard["cdc_cursor"] = far
        branch.burst()
        transcript = connector.read(configured, state)
        self.assertTrue(transcript.records)
        self.assertGreater(min(r["data"]["_ab_cdc_cursor"] for r in transcript.records), far)




if __name__ == "__main__":
    unittest.main()
