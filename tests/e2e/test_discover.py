"""The discover command: the rules of Airbyte's acceptance tests for a catalog, and which tables are in it."""
import collections
import unittest

import jsonschema

from tests.e2e.harness import RECORDINGS, BranchTest, Connector, LocalBranch, stream_of

CDC_COLUMNS = {"_ab_cdc_cursor", "_ab_cdc_updated_at", "_ab_cdc_deleted_at"}


class CatalogRules(BranchTest):
    @classmethod
    def setUpClass(cls):
        branch = LocalBranch(["commerce:2"], tables=3, rows=10, options=["--with-internal-tables"])
        cls.addClassCleanup(branch.close)
        with Connector(branch.config()) as connector:
            cls.transcript = connector.run("discover", "--config", connector.config)
        cls.streams = cls.transcript.catalog["streams"]

    def test_exactly_one_catalog_and_success(self):
        self.assertEqual(0, self.transcript.code)
        self.assertEqual(1, len(self.transcript.of("CATALOG")))

    def test_every_table_once_and_nothing_else(self):
        """S16: the branch also has a view, a sequence and a table of an online DDL."""
        self.assertEqual([("commerce", f"sbtest{i}") for i in (1, 2, 3)], sorted(stream_of(s) for s in self.streams))

    def test_schemas_are_valid_draft_7_without_references(self):
        for stream in self.streams:
            schema = stream["json_schema"]
            jsonschema.Draft7Validator.check_schema(schema)
            self.assertEqual("object", schema["type"])
            self.assertIs(True, schema.get("additionalProperties", True))
            for keyword in ('"$ref"', '"allOf"', '"not"'):
                self.assertNotIn(keyword, str(schema).replace("'", '"'))

    def test_streams_offer_both_modes_and_a_cursor_of_the_source(self):
        """S4, S11"""
        for stream in self.streams:
            self.assertEqual({"full_refresh", "incremental"}, set(stream["supported_sync_modes"]))
            self.assertIs(True, stream["source_defined_cursor"])
            self.assertIs(True, stream["is_resumable"])
            self.assertEqual(["_ab_cdc_cursor"], stream["default_cursor_field"])
            self.assertIn("_ab_cdc_cursor", stream["json_schema"]["properties"])

    def test_primary_keys_are_columns_that_are_no_objects(self):
        for stream in self.streams:
            self.assertEqual([["id"]], stream["source_defined_primary_key"])
            kind = stream["json_schema"]["properties"]["id"]["type"]
            self.assertNotIn("object", kind)
            self.assertNotIn("array", kind)

    def test_columns_of_sysbench_tables(self):
        """V1, V9"""
        properties = self.streams[0]["json_schema"]["properties"]
        self.assertEqual({"id", "k", "c", "pad"} | CDC_COLUMNS, set(properties))
        for name, kind, airbyte_type in (("id", "number", "integer"), ("k", "number", "integer")):
            self.assertIn(kind, _types(properties[name]) | {"number" if "integer" in _types(properties[name]) else ""})
            if "number" in _types(properties[name]):
                self.assertEqual(airbyte_type, properties[name]["airbyte_type"])
        self.assertIn("string", _types(properties["c"]))
        self.assertIn("null", _types(properties["_ab_cdc_deleted_at"]))


def _types(schema):
    kind = schema["type"]
    return set(kind) if isinstance(kind, list) else {kind}


class Keyspaces(BranchTest):
    @classmethod
    def setUpClass(cls):
        cls.server = LocalBranch(["a:1", "a_etl:2", "x_a:4", "with-hyphen:1"], tables=2, rows=8)
        cls.addClassCleanup(cls.server.close)

    def streams(self, **changes):
        with Connector(self.server.config(**changes)) as connector:
            return [stream_of(s) for s in connector.discover()["streams"]]

    def test_a_keyspace_is_matched_exactly(self):
        """S22: `a` is neither `a_etl` nor `x_a`; `_` is no wildcard."""
        for keyspace in ("a", "a_etl", "x_a"):
            found = self.streams(database=keyspace)
            self.assertEqual([(keyspace, "sbtest1"), (keyspace, "sbtest2")], sorted(found))

    def test_several_keyspaces_at_once(self):
        found = collections.Counter(self.streams(database="a,a_etl,x_a"))
        self.assertEqual({(k, t): 1 for k in ("a", "a_etl", "x_a") for t in ("sbtest1", "sbtest2")}, dict(found))

    def test_equal_table_names_are_warned_about(self):
        with Connector(self.server.config(database="a,x_a")) as connector:
            transcript = connector.run("discover", "--config", connector.config)
        warnings = [log for log in transcript.logs if "exists in several keyspaces" in log]
        self.assertEqual(1, len(warnings), transcript.explain())
        self.assertIn("The table name sbtest1 exists in several keyspaces (a, x_a), and 1 more as well (sbtest2). Set", warnings[0])

    def test_names_with_hyphens_are_quoted(self):
        """S18"""
        self.assertEqual({("with-hyphen", "sbtest1"), ("with-hyphen", "sbtest2")}, set(self.streams(database="with-hyphen")))


class LargeCatalog(BranchTest):
    def test_a_catalog_that_platforms_have_trouble_with_is_warned_of(self):
        branch = self.branch(["a:1", "b:1"], tables=6_000, rows=0)
        for database, warnings in (("a,b", 1), ("a", 0)):
            connector = self.connector(branch.config(database=database))
            transcript = connector.run("discover", "--config", connector.config)
            self.assertEqual(0, transcript.code, transcript.explain())
            self.assertEqual(12_000 if warnings else 6_000, len(transcript.catalog["streams"]))
            told = [log for log in transcript.logs if "platforms have trouble above 8 MB" in log]
            self.assertEqual(warnings, len(told), transcript.logs[:3])
            if warnings:
                self.assertIn("and 5999 more as well (sbtest10, sbtest100, sbtest1000, sbtest1001, …)", "\n".join(transcript.logs))


class TablesOfARecording(BranchTest):
    @classmethod
    def setUpClass(cls):
        cls.server = LocalBranch(replay=[RECORDINGS / "charsets_generated.vstream"])
        cls.addClassCleanup(cls.server.close)
        with Connector(cls.server.config(database="unsharded")) as connector:
            cls.by_name = {s["name"]: s for s in connector.discover()["streams"]}

    def test_composite_keys_keep_the_order_of_the_key(self):
        for stream in self.by_name.values():
            for path in stream["source_defined_primary_key"]:
                self.assertIn(path[0], stream["json_schema"]["properties"])
        self.assertTrue(any(len(s["source_defined_primary_key"]) > 1 for s in self.by_name.values()), self.by_name.keys())

    def test_every_table_of_the_recording_is_found(self):
        self.assertLessEqual({"charsets", "nob"}, set(self.by_name))


if __name__ == "__main__":
    unittest.main()
