"""Databases that leave columns out of their binary logs: binlog_row_image=NOBLOB and PARTIAL_JSON."""
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import BranchTest, configure, difference, fold, record_stream

ALL_TYPES = ("commerce", "all_types")
# MySQL's own text of a FLOAT has six digits, the binary log all of them: the two phases differ in the seventh.
ROUNDED = ("c_float",)


def rounded(rows):
    """A fold in which floats are as a copy shows them."""
    for table in rows.values():
        for row in table.values():
            for name in ROUNDED:
                if row.get(name) is not None:
                    row[name] = float(f"{row[name]:.6g}")
    return rows


class PartialImages(BranchTest):
    ROWS = 120

    def read(self, *options, shards=2):
        """What a destination holds after reads while the branch was written to, and after a copy when it is quiet."""
        branch = self.branch(
            [f"commerce:{shards}"], rows=self.ROWS, write_rate=900, write_total=3600, options=["--all-types", *options]
        )
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        changes = [r["data"] for t in transcripts[1:] for r in t.records if record_stream(r) == ALL_TYPES]
        self.assertGreater(len(changes), 500, "hardly anything came from the binary logs")
        copied = rounded(fold([connector.read(configured)]))
        truth = {(line["table"], int(line["row"]["id"])) for line in branch.stop()}
        self.assertEqual(truth, {(s[1], key) for s, rows in copied.items() for key in rows})
        return rounded(fold(transcripts)), copied, changes

    def assert_complete(self, *options):
        incremental, copied, changes = self.read(*options)
        self.assertEqual("", difference(incremental, copied))
        return incremental, changes

    def test_full_noblob_and_partial_json_give_the_same_rows(self):
        full, _ = self.assert_complete()
        partial, changes = self.assert_complete("--row-image", "noblob", "--partial-json")
        self.assertEqual("", difference(partial, full))
        self.assertFalse([c for c in changes if "%s" in str(c["c_json"])], "an expression was delivered as a document")

    def test_noblob_alone(self):
        self.assert_complete("--row-image", "noblob")

    def test_partial_json_alone(self):
        self.assert_complete("--partial-json")


class Resharded(FaultTest):
    """An old shard is read to its end, and its changes are completed from the shards that serve now: SQL does not reach
    the old one any more."""

    NOBLOB = ("--row-image", "noblob")
    BOTH = (*NOBLOB, "--partial-json")
    SPLIT = {"do": "reshard", "from": ["-80"], "to": ["-40", "40-80"], "on_signal": True}
    MERGE = {"do": "reshard", "from": ["-80", "80-"], "to": ["-"], "on_signal": True}

    def assert_complete(self, faults, options, between):
        """Reads before and after `between`, without a failure; what came equals a copy made afterwards."""
        branch = self.faulty(faults, ["commerce:2"], rows=300, write_burst=1500, options=["--all-types", *options])
        connector = self.connector(branch.config(max_retries=1))
        configured = configure(connector.catalog)
        first = connector.read(configured)
        between(branch)
        second = connector.read(configured, first.state_file())
        self.assertGreater(sum(record_stream(r) == ALL_TYPES for r in second.records), 500, second.explain())
        copied = connector.read(configured)
        self.assertEqual("", difference(rounded(fold([first, second])), rounded(fold([copied]))))
        branch.stop()
        self.assertEqual(["reshard"] * len(faults), self.happened(branch))
        return second

    def changed_around(self, *reshards):
        """Writes before each reshard and after the last one: some of the old rows are gone by then."""

        def between(branch):
            for _ in range(len(reshards)):
                branch.burst()
                self.set_off(branch, "reshard")
            branch.burst()

        self.assert_complete(reshards, self.NOBLOB, between)

    def test_a_split_between_syncs(self):
        self.changed_around(self.SPLIT)

    def test_a_merge_between_syncs(self):
        self.changed_around(self.MERGE)

    def test_two_reshards_between_syncs(self):
        self.changed_around(self.MERGE, {**self.MERGE, "from": ["-"], "to": ["-40", "40-c0", "c0-"]})

    def test_partial_json_and_a_split_between_syncs(self):
        def between(branch):
            branch.burst()
            self.set_off(branch, "reshard")

        self.assert_complete([self.SPLIT], self.BOTH, between)

    def test_a_split_while_the_changes_are_read(self):
        self.assert_complete(
            [{**self.SPLIT, "phase": "binlog", "rows": 20}], self.NOBLOB, lambda branch: self.arm(branch, "reshard")
        )


if __name__ == "__main__":
    unittest.main()
