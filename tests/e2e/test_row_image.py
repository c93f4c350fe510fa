"""Databases that leave columns out of their binary logs: binlog_row_image=NOBLOB and PARTIAL_JSON."""
import unittest

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


if __name__ == "__main__":
    unittest.main()
