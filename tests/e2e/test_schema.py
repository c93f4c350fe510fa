"""Columns that come, go and change their names: between syncs and in the middle of one, with the stored catalog and with a
refreshed one."""
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import configure, difference, fold

STREAM = ("commerce", "sbtest1")
LEFT_OUT = "The catalog does not select every column"
LOST = "The catalog has columns that"


def alter(**change):
    return {"do": "ddl", "table": "sbtest1", "on_signal": True, **change}


def rows_of(truth):
    """Lines of the truth in the form of fold()."""
    rows = {}
    for line in truth:
        row = {name: int(value) if name in ("id", "k", "extra") and value is not None else value for name, value in line["row"].items()}
        rows.setdefault((line["keyspace"], line["table"]), {})[row["id"]] = row
    return rows


def only(rows, columns):
    """The rows with these columns alone; one that a row does not have is null."""
    return {s: {key: {c: row.get(c) for c in columns} for key, row in table.items()} for s, table in rows.items()}


class SchemaChanges(FaultTest):
    def altered(self, change, **options):
        """A branch that has been read once, and its first transcript. The change waits for its signal."""
        branch = self.faulty([alter(**change)], ["commerce:2"], rows=400, write_burst=1500, **options)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        return branch, connector, configured, [connector.read(configured)]

    def change_between_syncs(self, branch):
        self.set_off(branch, "ddl")
        branch.burst()

    def change_in_a_catch_up(self, branch):
        """One part of the next read's transactions is older than the change, the other younger."""
        branch.burst()
        self.set_off(branch, "ddl")
        branch.burst()

    def read_all(self, branch, connector, configured, transcripts):
        """Reads from the last state until a read brings nothing. The truth."""
        self.read_until_quiet(connector, configured, transcripts[-1].state_file(), transcripts)
        truth = rows_of(branch.stop())
        self.assertTrue(truth[STREAM])
        self.assertEqual(["ddl"], self.happened(branch))
        return truth

    def warnings(self, transcript, text):
        return [log for log in transcript.logs if text in log]

    def columns_read(self, transcripts):
        return {name for t in transcripts for r in t.records for name in r["data"] if not name.startswith("_")}

    def refreshed(self, branch):
        """The connector with the catalog as it is now."""
        connector = self.connector(branch.config())
        return connector, configure(connector.catalog)

    # -- a column that is added

    def added_with_the_old_catalog(self, change):
        branch, connector, configured, transcripts = self.altered({"add": "extra int"})
        change(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertTrue(transcripts[1].records)
        warnings = self.warnings(transcripts[1], LEFT_OUT)
        self.assertEqual(1, len(warnings), transcripts[1].explain())
        self.assertIn("extra", warnings[0])
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertIn("extra", next(iter(truth[STREAM].values())))
        self.assertEqual({"id", "k", "c", "pad"}, self.columns_read(transcripts))
        self.assertEqual("", difference(fold(transcripts), only(truth, ["id", "k", "c", "pad"])))

    def test_a_column_added_between_syncs_is_left_out_with_one_warning(self):
        self.added_with_the_old_catalog(self.change_between_syncs)

    def test_a_column_added_in_a_catch_up_is_left_out_with_one_warning(self):
        self.added_with_the_old_catalog(self.change_in_a_catch_up)

    def test_an_added_column_is_delivered_with_a_refreshed_catalog(self):
        branch, _, _, transcripts = self.altered({"add": "extra int"})
        self.change_between_syncs(branch)
        connector, configured = self.refreshed(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertEqual([], self.warnings(transcripts[1], LEFT_OUT))
        written = [r["data"]["extra"] for r in transcripts[1].records if r["data"]["_ab_cdc_deleted_at"] is None]
        self.assertTrue(any(value is not None for value in written))
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual("", difference(only(fold(transcripts), ["id", "k", "c", "pad", "extra"]), truth))

    def test_a_refreshed_catalog_reads_on_from_before_the_change(self):
        """The transactions before it have no such column yet: it is absent there, and the read says so."""
        branch, _, _, transcripts = self.altered({"add": "extra int"})
        self.change_in_a_catch_up(branch)
        connector, configured = self.refreshed(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertTrue(self.warnings(transcripts[1], LOST))
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual("", difference(only(fold(transcripts), ["id", "k", "c", "pad", "extra"]), truth))

    def test_a_column_that_only_one_shard_has_yet(self):
        """As while a change rolls over the shards: each shard's rows have its own columns."""
        branch, _, _, transcripts = self.altered({"add": "extra int", "shard": "-80"})
        self.change_between_syncs(branch)
        connector, configured = self.refreshed(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        warnings = self.warnings(transcripts[1], LOST)
        self.assertEqual(1, len(warnings), transcripts[1].explain())
        self.assertIn("extra", warnings[0])
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual({4, 5}, {len(row) for row in truth[STREAM].values()})
        columns = ["id", "k", "c", "pad", "extra"]
        self.assertEqual("", difference(only(fold(transcripts), columns), only(truth, columns)))

    # -- a column that is dropped

    def dropped_with_the_old_catalog(self, change):
        branch, connector, configured, transcripts = self.altered({"drop": "pad"})
        change(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertTrue(transcripts[1].records)
        self.assertIsNone(transcripts[1].records[-1]["data"].get("pad"))
        self.assertTrue(self.warnings(transcripts[1], LOST), transcripts[1].explain())
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertNotIn("pad", next(iter(truth[STREAM].values())))
        self.assertEqual("", difference(only(fold(transcripts), ["id", "k", "c"]), truth))

    def test_a_column_dropped_between_syncs_is_null_or_absent_with_a_warning(self):
        self.dropped_with_the_old_catalog(self.change_between_syncs)

    def test_a_column_dropped_in_a_catch_up_is_null_or_absent_with_a_warning(self):
        self.dropped_with_the_old_catalog(self.change_in_a_catch_up)

    # -- a column with a new name

    def test_a_column_renamed_in_a_catch_up_is_lost_under_its_old_name(self):
        branch, connector, configured, transcripts = self.altered({"rename": ["pad", "note"]})
        self.change_in_a_catch_up(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertTrue(self.warnings(transcripts[1], LOST), transcripts[1].explain())
        self.assertEqual(1, len(self.warnings(transcripts[1], LEFT_OUT)), transcripts[1].explain())
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual({"id", "k", "c", "pad"}, self.columns_read(transcripts))
        self.assertEqual("", difference(only(fold(transcripts), ["id", "k", "c"]), only(truth, ["id", "k", "c"])))

    # -- a copy

    def test_a_column_dropped_in_the_middle_of_a_copy(self):
        """The copy's call breaks behind the change; the next one goes on with the columns that are left."""
        faults = [
            {"do": "ddl", "table": "sbtest1", "drop": "pad", "phase": "copy", "rows": 1500},
            {"do": "status", "phase": "copy", "rows": 1500},
        ]
        branch = self.faulty(faults, ["commerce:1"], rows=6000)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        branch.burst()
        self.assertTrue(self.warnings(transcripts[0], LOST), transcripts[0].explain())
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        truth = rows_of(branch.stop())
        self.assertEqual(["ddl", "status"], self.happened(branch))
        self.assertEqual("", difference(only(fold(transcripts), ["id", "k", "c"]), truth))


if __name__ == "__main__":
    unittest.main()
