"""Moving from planetscale/airbyte-source and back: its stored catalogs, unrefreshed; its states; its configurations."""
import collections
import decimal
import json
import re
import unittest

import jsonschema

from tests.e2e import all_types, protobuf
from tests.e2e.destination import LOST, coerce, declared_type
from tests.e2e.harness import (
    ROOT,
    BranchTest,
    configure,
    cursors_of,
    difference,
    record_stream,
    sbtest_truth,
    shards_of,
    state_stream,
    stream_of,
)

DATA = ROOT / "tests" / "data" / "airbyte-source"
CATALOGS = ("catalog_2.12", "catalog_2.12_options", "catalog_2022")
CDC_COLUMNS = {"_ab_cdc_cursor", "_ab_cdc_updated_at", "_ab_cdc_deleted_at"}
STREAMS = {("commerce", "all_types"), ("commerce", "sbtest1")}


def stored_catalog(name):
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def options_of(name):
    """The configuration that goes with a stored catalog."""
    if name.endswith("_options"):
        return {"include_metadata": True, "options": {"do_not_treat_tiny_int_as_boolean": True}}
    return {}


def properties_of(catalog):
    return {stream_of(s["stream"]): s["stream"]["json_schema"]["properties"] for s in catalog["streams"]}


def legacy_state(states):
    """The untyped state of its versions up to 2.12: base64 cursors alone, by keyspace:table."""
    streams = {}
    for state in states:
        keyspace, table = state_stream(state)
        streams[f"{keyspace}:{table}"] = {"shards": {n: {"cursor": s["cursor"]} for n, s in shards_of(state).items()}}
    return {"streams": streams}


def stream_states(states):
    """Its newer state, one message per stream; also what it leaves of a state that this connector wrote."""
    return [
        {
            "type": "STREAM",
            "stream": {
                "stream_descriptor": state["stream"]["stream_descriptor"],
                "stream_state": {"shards": {n: {"cursor": s["cursor"]} for n, s in shards_of(state).items()}},
            },
        }
        for state in states
    ]


def exact_records(transcript):
    """Records with every digit of their numbers."""
    return [
        json.loads(line, parse_float=decimal.Decimal)["record"]
        for line in transcript.lines
        if line.startswith(b'{"type":"RECORD"')
    ]


class MovingTest(BranchTest):
    def branch_with_types(self, rows=150, **options):
        return self.branch(["commerce:2"], rows=rows, options=["--all-types"], **options)

    def newest(self, transcripts):
        """{stream: {id: record}} by arrival: without _ab_cdc_cursor a destination goes by the time of extraction."""
        rows = collections.defaultdict(dict)
        for transcript in transcripts:
            for record in exact_records(transcript):
                rows[record_stream(record)][record["data"]["id"]] = record
        return rows


class StoredCatalogs(MovingTest):
    def read_with(self, name):
        """A copy and reads of what is written meanwhile, all with the stored catalog."""
        branch = self.branch_with_types(write_burst=2500)
        connector = self.connector(branch.config(**options_of(name)))
        configured = stored_catalog(name)
        transcripts = [connector.read(configured, matches_schema=False)]
        branch.burst()
        transcripts.append(connector.read(configured, transcripts[0].state_file(), matches_schema=False))
        self.assertGreater(len(transcripts[1].records), 500)
        return branch, configured, transcripts

    def test_the_files_have_the_columns_of_the_branch(self):
        connector = self.connector(self.branch_with_types(rows=1).config())
        discovered = properties_of({"streams": [{"stream": s} for s in connector.catalog["streams"]]})
        for name in CATALOGS:
            for stream, properties in properties_of(stored_catalog(name)).items():
                expected = set(discovered[stream]) - CDC_COLUMNS - {"c_vector"}
                self.assertEqual(expected, set(properties) - {"_planetscale_metadata"}, (name, stream))

    def test_old_columns_only_no_deletes_and_every_value_fits_the_old_type(self):
        for name in CATALOGS:
            with self.subTest(catalog=name):
                branch, configured, transcripts = self.read_with(name)
                declared = properties_of(configured)
                compared = 0
                for transcript in transcripts:
                    for record in exact_records(transcript):
                        properties = declared[record_stream(record)]
                        self.assertEqual(set(properties), set(record["data"]))
                        for column, value in record["data"].items():
                            compared += 1
                            self.assertIsNot(
                                LOST,
                                coerce(value, properties[column]),
                                f"{column} {properties[column]}: {value!r} would become null",
                            )
                self.assertGreater(compared, 20_000)
                self.compare_with_truth(branch, declared, self.newest(transcripts))

    def compare_with_truth(self, branch, declared, newest):
        """Every row that exists is there as it is, read by the old types; rows that were deleted stay."""
        lines = branch.stop()
        for stream in STREAMS:
            truth = {int(line["row"]["id"]): line["row"] for line in lines if line["table"] == stream[1]}
            self.assertLess(set(truth), set(newest[stream]), "rows that were deleted stay, without delete records")
        for line in lines:
            if line["table"] != "all_types":
                continue
            record = newest[("commerce", "all_types")][int(line["row"]["id"])]
            for column, properties in declared[("commerce", "all_types")].items():
                if column == "_planetscale_metadata":
                    continue
                value = line["row"][column]
                wanted = all_types.expected(column, value)
                if column == "c_bool" and value is not None and declared_type(properties) == "integer":
                    wanted = int(value)
                found = coerce(record["data"][column], properties)
                self.assert_same(column, found, wanted, declared_type(properties))

    def assert_same(self, column, found, wanted, kind):
        if wanted is None or wanted is all_types.NULLED:
            self.assertIsNone(found, column)
        elif kind == "string" and isinstance(wanted, bool):
            self.assertEqual("true" if wanted else "false", found, column)
        elif isinstance(wanted, float):
            same = float(found) == wanted or (column == "c_float" and float(f"{float(found):.6g}") == wanted)
            self.assertTrue(same, f"{column}: {found} is not {wanted}")
        elif kind == "string":
            self.assertEqual(str(wanted), found, column)
        elif kind in ("boolean", "integer", "number"):
            self.assertEqual(wanted, found, column)
        else:
            self.assertEqual(str(wanted).rstrip("Z"), self.text_of(found, kind), column)

    @staticmethod
    def text_of(found, kind):
        if kind == "date":
            return found.isoformat()
        text = found.replace(tzinfo=None).isoformat(timespec="microseconds")
        return text

    def test_bits_and_years_become_text_where_text_was_declared(self):
        """The table of docs/migration.md in one row."""
        connector = self.connector(self.branch_with_types(rows=5).config())
        properties = properties_of(stored_catalog("catalog_2.12"))[("commerce", "all_types")]
        self.assertEqual("time_tz", declared_type(properties["c_time"]))
        found = collections.defaultdict(set)
        for record in exact_records(connector.read(stored_catalog("catalog_2.12"), matches_schema=False)):
            if record["stream"] == "all_types":
                for column in ("c_bit1", "c_bit9", "c_bit64", "c_year", "c_binary", "c_geometry"):
                    self.assertEqual("string", declared_type(properties[column]))
                    found[column].add(coerce(record["data"][column], properties[column]))
        self.assertEqual({None, "true", "false"}, found["c_bit1"])
        self.assertEqual({None, "511", "1", "0", "341"}, found["c_bit9"])
        self.assertEqual({None, "18446744073709551615", "0", "1", "85"}, found["c_bit64"])
        self.assertEqual({None, "2155", "1901", "0", "2024"}, found["c_year"])
        self.assertEqual({None, "/////w==", "AAAAAA==", "YgAAAA=="}, found["c_binary"])
        self.assertEqual({None, "POINT(1 2)", "GEOMETRYCOLLECTION EMPTY", "LINESTRING(0 0,1 1)"}, found["c_geometry"])

    def test_the_old_cursor_field_is_warned_about_each_time_with_the_cure(self):
        connector = self.connector(self.branch_with_types(rows=3).config())
        configured = stored_catalog("catalog_2.12")
        first = connector.read(configured, matches_schema=False)
        for transcript in (first, connector.read(configured, first.state_file(), matches_schema=False)):
            said = [log for log in transcript.logs if log.startswith("WARN") and "cursor field" in log]
            self.assertEqual(2, len(said), transcript.explain())
            for text in said:
                self.assertIn('"id"', text)
                self.assertIn('Refresh the connection\'s schema, then set the stream\'s cursor field to "_ab_cdc_cursor"', text)


class StateTest(MovingTest):
    """A branch that was read once, then written to, then read until it was quiet."""

    def setUp(self):
        self.server = self.branch_with_types(rows=150, write_burst=2500)
        self.reader = self.connector(self.server.config())
        self.configured = configure(self.reader.catalog)
        self.transcripts = [self.reader.read(self.configured)]
        self.saved = self.transcripts[0].state_file()
        self.server.burst()
        self.transcripts.append(self.reader.read(self.configured, self.saved))
        self.last = self.transcripts[1].state_file()

    def changes(self, transcript):
        """What came, without what a run makes up: order per row is kept."""
        rows = collections.defaultdict(list)
        for record in transcript.records:
            data = {k: v for k, v in record["data"].items() if not k.startswith("_")}
            deleted = record["data"].get("_ab_cdc_deleted_at") is not None
            rows[(record_stream(record), data["id"])].append((deleted, data))
        return rows


class StoredStates(StateTest):
    def test_every_form_continues_with_exactly_the_changes_since(self):
        own = self.changes(self.reader.read(self.configured, self.saved))
        self.assertGreater(sum(len(v) for v in own.values()), 300)
        legacy = legacy_state(self.saved)
        forms = {
            "bare": legacy,
            "LEGACY message": [{"type": "LEGACY", "data": legacy, "stream": None, "global": None}],
            "untyped message": [{"data": legacy}],
            "one message per stream": stream_states(self.saved),
            "in envelopes": [{"type": "STATE", "state": s} for s in stream_states(self.saved)],
        }
        for name, state in forms.items():
            with self.subTest(form=name):
                transcript = self.reader.read(self.configured, state)
                self.assertEqual(own, self.changes(transcript))
                self.assertEqual(
                    {state_stream(s): cursors_of(s) for s in self.last},
                    {state_stream(s): cursors_of(s) for s in transcript.state_file()},
                )

    def test_a_legacy_state_counts_more_than_starting_positions(self):
        """The state's position is the newest one: nothing is read from the older position of the configuration."""
        begin = {s: c.position for s, c in cursors_of(self.saved[0]).items()}
        stream = state_stream(self.saved[0])
        gtids = json.dumps({"commerce": begin})
        reader = self.connector(self.server.config(starting_gtids=gtids), self.reader.catalog)
        self.assertEqual([], reader.read(self.configured, legacy_state(self.last)).records)
        with_state = self.changes(self.reader.read(self.configured, self.saved))
        without = self.changes(reader.read(self.configured))
        # The position is that of one table; the other was copied up to another one.
        self.assertEqual(*({k: v for k, v in rows.items() if k[0] == stream} for rows in (with_state, without)))

    def test_the_old_catalog_first_and_the_refreshed_one_later(self):
        """As a connection moves: the image is changed, the schema is refreshed later. Nothing is read twice, and from the
        refresh on there are deletes."""
        old = self.reader.read(stored_catalog("catalog_2.12"), legacy_state(self.saved), matches_schema=False)
        self.assertGreater(len(old.records), 300)
        self.assertTrue(all(set(r["data"]) & CDC_COLUMNS == set() for r in old.records))
        later = self.reader.read(self.configured, old.state_file())
        self.assertEqual([], later.records)
        refreshed = self.reader.read(self.configured, legacy_state(self.saved))
        deletes = [r for r in refreshed.records if r["data"]["_ab_cdc_deleted_at"] is not None]
        kept = sum(len(v) for v in self.changes(refreshed).values()) - len(deletes)
        self.assertTrue(deletes)
        self.assertEqual(kept, len(old.records), "the old catalog gets everything but the deletes")
        truth = sbtest_truth([line for line in self.server.stop() if line["table"] == "sbtest1"])
        # By arrival: rows from before the move have no cursor column.
        rows = {}
        for record in self.transcripts[0].records + refreshed.records:
            data = record["data"]
            if record["stream"] == "sbtest1":
                rows[data["id"]] = {k: data[k] for k in ("id", "k", "c", "pad")}
                if data["_ab_cdc_deleted_at"] is not None:
                    del rows[data["id"]]
        self.assertEqual("", difference({("commerce", "sbtest1"): rows}, truth))


class MovingBack(StateTest):
    """A state of this connector as planetscale/airbyte-source reads it: the cursor of each shard, and nothing else."""

    def test_every_cursor_is_complete_and_has_only_fields_that_it_knows(self):
        for state in self.last:
            self.assertNotIn("packed", state["stream"]["stream_state"])
            for shard, entry in shards_of(state).items():
                numbers = [number for number, _ in protobuf.fields(protobuf.base64.b64decode(entry["cursor"], validate=True))]
                self.assertLessEqual(set(numbers), {1, 2, 3, 4})
                cursor = protobuf.TableCursor.decode(entry["cursor"])
                self.assertEqual((shard, "commerce"), (cursor.shard, cursor.keyspace))
                self.assertRegex(cursor.position, r"^MySQL56/[0-9a-f]{8}-[0-9a-f-]{27}:1-\d+$")
                self.assertIsNone(cursor.lastpk)

    def test_there_and_back_again_loses_and_repeats_nothing(self):
        """It hands on the cursors alone. Coming back, the changes since are delivered, once."""
        there = stream_states(self.saved)
        back = self.reader.read(self.configured, there)
        own = self.changes(self.reader.read(self.configured, self.saved))
        self.assertEqual(own, self.changes(back))
        again = self.reader.read(self.configured, stream_states(back.state_file()))
        self.assertEqual([], again.records)


class Configurations(MovingTest):
    KEPT = json.loads((DATA / "configurations.json").read_text(encoding="utf-8"))

    def test_each_is_valid_and_works(self):
        branch = self.branch(["commerce:2"], rows=20)
        spec = self.connector({}).run("spec").of("SPEC")[0]["connectionSpecification"]
        for name, stored in self.KEPT.items():
            with self.subTest(configuration=name):
                without_nulls = {k: v for k, v in stored.items() if v is not None}
                jsonschema.Draft7Validator(spec).validate(without_nulls)
                # What differs on this machine: an address, two ports, no TLS.
                here = {k: v for k, v in branch.config().items() if k in ("host", "port", "mysql_port", "tls")}
                connector = self.connector({**stored, **here})
                self.assertEqual("SUCCEEDED", connector.check().connection_status["status"])
                transcript = connector.read()
                self.assertEqual(20, len(transcript.records))
                self.assertEqual({"-80", "80-"}, set(shards_of(transcript.states[-1])))
                has_metadata = "_planetscale_metadata" in transcript.records[0]["data"]
                self.assertEqual(bool(stored.get("include_metadata")), has_metadata)


class Documented(MovingTest):
    """docs/migration.md against the catalogs."""

    def setUp(self):
        self.page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")

    def test_every_type_that_is_declared_anew_is_in_the_table(self):
        connector = self.connector(self.branch_with_types(rows=1).config())
        stream = next(s for s in connector.catalog["streams"] if s["name"] == "all_types")
        now = stream["json_schema"]["properties"]
        before = properties_of(stored_catalog("catalog_2.12"))[("commerce", "all_types")]
        rows = [row.split("|") for row in self.page.splitlines() if row.startswith("| ")]
        changed = {}
        for column, schema in before.items():
            old, new = declared_type(schema), declared_type(now[column])
            if old != new:
                changed[all_types.COLUMNS[column][0]] = (old, new)
        self.assertEqual({"bit(1)", "bit(9)", "bit(64)", "year", "time", "time(6)"}, set(changed))
        for mysql_type in changed:
            name = all_types.base_type(mysql_type).upper()
            told = [row for row in rows if re.search(rf"\b{name}\b", row[1])]
            self.assertTrue(told, name)
            self.assertTrue(any("becomes" in row[4] for row in told), f"{name}: what the destination's column becomes is missing")

    def test_the_version_is_the_breaking_one(self):
        metadata = (ROOT / "metadata.yaml").read_text(encoding="utf-8")
        self.assertIn("dockerImageTag: 3.0.0", metadata)
        self.assertRegex(metadata, r"breakingChanges:\n\s+3\.0\.0:\n\s+message: ")
        self.assertIn("version 3.0.0 (`releases.breakingChanges` in metadata.yaml)", self.page.replace("\n", " "))


if __name__ == "__main__":
    unittest.main()
