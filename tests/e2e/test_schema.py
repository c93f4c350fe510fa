"""Columns that come, go and change their names, places and types, and tables that are emptied: between syncs and in the
middle of one, with the stored catalog and with a refreshed one."""
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import configure, difference, fold

STREAM = ("commerce", "sbtest1")
LEFT_OUT = "The catalog does not select every column"
LOST = "The catalog has columns that"
EMPTIED = "were removed in the source by a statement that the binary log does not tell row by row"
OTHER_TYPE = "The catalog declares column k of commerce.sbtest1 as number (integer), but its type is varchar."
RELOADING = "The server was reloading the schema of"
COLUMNS = ["id", "k", "c", "pad"]


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


def as_text(rows, column):
    """The rows with the column's values as texts, whatever their type."""
    return {s: {key: {**row, column: str(row[column])} for key, row in table.items()} for s, table in rows.items()}


class SchemaTest(FaultTest):
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

    def change_in_a_copy(self, change, **options):
        """A branch and the transcript of its first read: a copy that has the change in its middle, whose call then breaks."""
        faults = [
            {"do": "ddl", "table": "sbtest1", **change, "phase": "copy", "rows": 1500},
            {"do": "status", "phase": "copy", "rows": 1500},
        ]
        branch = self.faulty(faults, ["commerce:1"], rows=6000)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured, **options)]
        self.assertGreater(len(transcripts[0].records), 1000)
        branch.burst()
        return branch, connector, configured, transcripts

    def read_all(self, branch, connector, configured, transcripts, faults=("ddl",), **options):
        """Reads from the last state until a read brings nothing. The truth."""
        self.read_until_quiet(connector, configured, transcripts[-1].state_file(), transcripts, **options)
        truth = rows_of(branch.stop())
        self.assertTrue(truth[STREAM])
        self.assertEqual([*faults], self.happened(branch))
        return truth

    def warnings(self, transcript, text):
        return [log for log in transcript.logs if text in log]

    def columns_read(self, transcripts):
        return {name for t in transcripts for r in t.records for name in r["data"] if not name.startswith("_")}

    def refreshed(self, branch):
        """The connector with the catalog as it is now."""
        connector = self.connector(branch.config())
        return connector, configure(connector.catalog)


class ColumnsComeAndGo(SchemaTest):
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
        branch, connector, configured, transcripts = self.change_in_a_copy({"drop": "pad"})
        self.assertTrue(self.warnings(transcripts[0], LOST), transcripts[0].explain())
        truth = self.read_all(branch, connector, configured, transcripts, ["ddl", "status"])
        self.assertEqual("", difference(only(fold(transcripts), ["id", "k", "c"]), truth))


class ColumnsChange(SchemaTest):
    # -- places

    def read_reordered(self, branch, connector, configured, transcripts, faults=("ddl",)):
        """No value gets into another column, and nothing has to be said."""
        truth = self.read_all(branch, connector, configured, transcripts, faults)
        self.assertEqual(["pad", "id", "k", "c"], list(next(iter(truth[STREAM].values()))))
        self.assertEqual("", difference(fold(transcripts), truth))
        for transcript in transcripts:
            self.assertEqual([], self.warnings(transcript, "catalog"), transcript.explain())

    def reordered(self, change):
        branch, connector, configured, transcripts = self.altered({"modify": "pad first"})
        change(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertTrue(transcripts[1].records)
        self.read_reordered(branch, connector, configured, transcripts)

    def test_columns_in_another_order_between_syncs(self):
        self.reordered(self.change_between_syncs)

    def test_columns_in_another_order_in_a_catch_up(self):
        self.reordered(self.change_in_a_catch_up)

    def test_columns_in_another_order_in_the_middle_of_a_copy(self):
        read = self.change_in_a_copy({"modify": "pad first"})
        self.read_reordered(*read, ["ddl", "status"])

    def test_a_column_added_in_front_of_the_others(self):
        branch, connector, configured, transcripts = self.altered({"add": "extra int first"})
        self.change_in_a_catch_up(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertEqual(1, len(self.warnings(transcripts[1], LEFT_OUT)), transcripts[1].explain())
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual("extra", list(next(iter(truth[STREAM].values())))[0])
        self.assertEqual("", difference(fold(transcripts), only(truth, COLUMNS)))

    # -- types

    def read_retyped(self, branch, connector, configured, transcripts, faults=("ddl",)):
        """Values come in their new form; rows that nobody has written since keep their old one."""
        truth = self.read_all(branch, connector, configured, transcripts, faults, matches_schema=False)
        self.assertEqual("", difference(as_text(fold(transcripts), "k"), as_text(truth, "k")))
        forms = [type(r["data"]["k"]) for t in transcripts for r in t.records]
        self.assertEqual({int, str}, set(forms))
        self.assertIs(str, forms[-1])
        for transcript in transcripts:
            told = {type(r["data"]["k"]) for r in transcript.records}
            warnings = self.warnings(transcript, "catalog")
            self.assertEqual(1 if str in told else 0, len(warnings), transcript.explain())
            self.assertTrue(all(OTHER_TYPE in w for w in warnings), warnings)

    def retyped(self, change):
        branch, connector, configured, transcripts = self.altered({"modify": "k varchar(20)"})
        change(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file(), matches_schema=False))
        self.read_retyped(branch, connector, configured, transcripts)

    def test_a_column_of_another_type_between_syncs(self):
        self.retyped(self.change_between_syncs)

    def test_a_column_of_another_type_in_a_catch_up(self):
        self.retyped(self.change_in_a_catch_up)

    def test_a_column_of_another_type_in_the_middle_of_a_copy(self):
        read = self.change_in_a_copy({"modify": "k varchar(20)"}, matches_schema=False)
        self.read_retyped(*read, ["ddl", "status"])

    def test_a_column_of_another_type_with_a_refreshed_catalog(self):
        """The changes from before are in their old form: that is told, and no row is lost."""
        branch, _, _, transcripts = self.altered({"modify": "k varchar(20)"})
        self.change_in_a_catch_up(branch)
        connector, configured = self.refreshed(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file(), matches_schema=False))
        warnings = self.warnings(transcripts[1], "The catalog declares column k of commerce.sbtest1 as string, but its type is int.")
        self.assertEqual(1, len(warnings), transcripts[1].explain())
        transcripts.append(connector.read(configured))
        self.assertEqual([], self.warnings(transcripts[2], "catalog"), transcripts[2].explain())
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual("", difference(fold(transcripts[2:]), as_text(truth, "k")))

    def test_a_wider_column_needs_nothing(self):
        branch, connector, configured, transcripts = self.altered({"modify": "k bigint"})
        self.change_in_a_catch_up(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertEqual([], self.warnings(transcripts[1], "catalog"), transcripts[1].explain())
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual("", difference(fold(transcripts), truth))


class EmptiedTables(SchemaTest):
    def assert_truth_and_what_stays(self, transcripts, truth, emptied):
        """The rows of now are there as they are. `emptied`, those that were there before, may still be there as well."""
        rows = fold(transcripts)
        stay = set(rows[STREAM]) - set(truth[STREAM])
        self.assertTrue(stay)
        self.assertLessEqual(stay, emptied)
        for key in stay:
            del rows[STREAM][key]
        self.assertEqual("", difference(rows, truth))

    def emptied(self, change, between):
        branch, connector, configured, transcripts = self.altered(change)
        before = {r["data"]["id"] for r in transcripts[0].records}
        between(branch)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        warnings = self.warnings(transcripts[1], EMPTIED)
        self.assertEqual(1, len(warnings), transcripts[1].explain())
        self.assertIn("Refresh and remove records", warnings[0])
        before |= {r["data"]["id"] for r in transcripts[1].records}
        # As the warning says: who copies anew has the rows of now alone.
        anew = [connector.read(configured)]
        self.assertEqual([], self.warnings(anew[0], EMPTIED))
        self.read_until_quiet(connector, configured, anew[0].state_file(), anew)
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assert_truth_and_what_stays(transcripts, truth, before)
        self.assertEqual("", difference(fold(anew), truth))

    def test_a_table_truncated_between_syncs(self):
        self.emptied({"truncate": True}, self.change_between_syncs)

    def test_a_table_truncated_in_a_catch_up(self):
        self.emptied({"truncate": True}, self.change_in_a_catch_up)

    def test_a_table_dropped_and_created_again_between_syncs(self):
        self.emptied({"recreate": True}, self.change_between_syncs)

    def test_a_table_dropped_and_created_again_in_a_catch_up(self):
        self.emptied({"recreate": True}, self.change_in_a_catch_up)

    def in_a_copy(self, change):
        """What was copied before stays; the rest is not there any more when the copy goes on."""
        branch, connector, configured, transcripts = self.change_in_a_copy(change)
        self.assertEqual(1, len(self.warnings(transcripts[0], EMPTIED)), transcripts[0].explain())
        before = {r["data"]["id"] for r in transcripts[0].records}
        self.assertLess(len(before), 6000)
        truth = self.read_all(branch, connector, configured, transcripts, ["ddl", "status"])
        self.assert_truth_and_what_stays(transcripts, truth, before)

    def test_a_table_truncated_in_the_middle_of_its_copy(self):
        self.in_a_copy({"truncate": True})

    def test_a_table_dropped_and_created_again_in_the_middle_of_its_copy(self):
        self.in_a_copy({"recreate": True})


class SchemaReloads(SchemaTest):
    """A tablet that has not read the columns of a DDL yet ends the streams that come to it, with UNKNOWN."""

    def between_two_statements(self, failures, **config):
        """Two statements quickly behind one another, with changes before and behind them."""
        faults = [alter(add="extra int", reload_failures=failures), alter(drop="extra", reload_failures=failures)]
        branch = self.faulty(faults, ["commerce:2"], rows=400, write_burst=1500)
        connector = self.connector(branch.config(**config))
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        branch.burst()
        self.set_off(branch, "ddl")
        self.set_off(branch, "ddl")
        branch.burst()
        return branch, connector, configured, transcripts

    def test_two_quick_statements_are_read_across(self):
        branch, connector, configured, transcripts = self.between_two_statements(2)
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertTrue(self.warnings(transcripts[1], RELOADING), transcripts[1].explain())
        truth = self.read_all(branch, connector, configured, transcripts, ["ddl", "ddl"])
        self.assertEqual("", difference(fold(transcripts), truth))

    def test_a_tablet_that_never_reloads_is_given_up(self):
        branch, connector, configured, transcripts = self.between_two_statements(1000, max_retries=1)
        failed, _ = self.failed_read(connector, configured, transcripts[0].state_file())
        self.assertIn(RELOADING, failed.errors[0]["message"])
        self.assertEqual("transient_error", failed.errors[0]["failure_type"])


class WithoutSchemaVersions(SchemaTest):
    """Tablets without --track-schema-versions show older changes with the columns of now."""

    def changed(self, change):
        read = self.altered(change, options=["--no-schema-versions"])
        self.change_in_a_catch_up(read[0])
        return read

    def test_a_column_added_behind_the_others(self):
        branch, connector, configured, transcripts = self.changed({"add": "extra int"})
        transcripts.append(connector.read(configured, transcripts[0].state_file()))
        self.assertEqual(1, len(self.warnings(transcripts[1], LEFT_OUT)), transcripts[1].explain())
        truth = self.read_all(branch, connector, configured, transcripts)
        self.assertEqual("", difference(fold(transcripts), only(truth, COLUMNS)))

    def refused(self, change, text):
        """The older changes cannot be read any more: that is said with the cure, and the cure works."""
        branch, connector, configured, transcripts = self.changed(change)
        failed, _ = self.failed_read(connector, configured, transcripts[0].state_file())
        self.assertIn(text, failed.errors[0]["message"])
        self.assertEqual([], failed.records)
        connector, configured = self.refreshed(branch)
        transcripts = [connector.read(configured)]
        truth = self.read_all(branch, connector, configured, transcripts)
        columns = list(next(iter(truth[STREAM].values())))
        self.assertEqual("", difference(only(fold(transcripts), columns), truth))

    def test_a_column_dropped_leaves_older_changes_unreadable(self):
        self.refused({"drop": "pad"}, "Vitess cannot match older changes on ")

    def test_columns_named_by_place_are_refused(self):
        self.refused({"add": "extra int first"}, "Vitess can no longer tell which value of the old changes belongs to which column")


if __name__ == "__main__":
    unittest.main()
