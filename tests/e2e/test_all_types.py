"""Every type end to end: what was delivered of all_types equals the branch's truth, value by value, in both phases."""
import decimal
import json
import unittest

from tests.e2e import all_types
from tests.e2e.harness import BranchTest, configure, record_stream

STREAM = ("commerce", "all_types")
CASES = 5


def exact_records(transcript):
    """The records of all_types with every digit of their numbers."""
    found = []
    for line in transcript.lines:
        if line.startswith(b'{"type":"RECORD"'):
            record = json.loads(line, parse_float=decimal.Decimal)["record"]
            if record_stream(record) == STREAM:
                found.append(record)
    return found


def rounded(column, value):
    """MySQL's own text of a FLOAT has six digits."""
    return float(f"{value:.6g}") if column == "c_float" and value is not None else value


class AllTypes(BranchTest):
    ROWS = 200

    def typed_branch(self, *options, **writes):
        branch = self.branch(["commerce:2"], rows=self.ROWS, options=["--all-types", *options], **writes)
        return branch, self.connector(branch.config())

    def assert_rows(self, records, lines):
        """Each row of the truth is the newest of its records, and every other row was deleted."""
        newest = {}
        for record in records:
            key = record["data"]["id"]
            if key not in newest or record["data"]["_ab_cdc_cursor"] >= newest[key]["data"]["_ab_cdc_cursor"]:
                newest[key] = record
        left = {key: record for key, record in newest.items() if record["data"]["_ab_cdc_deleted_at"] is None}
        truth = {int(line["row"]["id"]): line["row"] for line in lines if line["table"] == "all_types"}
        self.assertEqual(set(truth), set(left))
        for key, row in truth.items():
            self.assertEqual([], all_types.differences(left[key], row), f"row {key}")
        return truth

    def test_the_columns_are_those_that_are_discovered(self):
        _, connector = self.typed_branch()
        stream = next(s for s in connector.catalog["streams"] if s["name"] == "all_types")
        columns = [c for c in stream["json_schema"]["properties"] if not c.startswith("_ab_cdc_")]
        self.assertEqual(list(all_types.COLUMNS), columns)

    def test_copy_equals_the_truth(self):
        branch, connector = self.typed_branch()
        records = exact_records(connector.read())
        self.assertEqual(self.ROWS, len(records))
        truth = self.assert_rows(records, branch.stop())
        self.assertEqual(CASES, len({json.dumps({k: v for k, v in r.items() if k != "id"}) for r in truth.values()}))

    def test_full_refresh_equals_the_truth(self):
        branch, connector = self.typed_branch()
        self.assert_rows(exact_records(connector.read(configure(connector.catalog, "full_refresh"))), branch.stop())

    def changes(self, *options):
        """A copy, then reads of what was written since, until nothing comes; all that came folds to the truth."""
        branch, connector = self.typed_branch(*options, write_burst=4000)
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        branch.burst()
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        records = [record for transcript in transcripts for record in exact_records(transcript)]
        truth = self.assert_rows(records, branch.stop())
        changed = [record for transcript in transcripts[1:] for record in exact_records(transcript)]
        self.assertGreater(len(changed), 500, "hardly anything came from the binary log")
        self.assertGreater(len({record["data"]["id"] for record in changed} & set(truth)), 100)
        return records

    def test_binary_log_with_deletes_equals_the_truth(self):
        """A delete delivers the row as it last was."""
        last, deletes = {}, 0
        for record in sorted(self.changes(), key=lambda r: r["data"]["_ab_cdc_cursor"]):
            data = record["data"]
            columns = {c: rounded(c, data[c]) for c in all_types.COLUMNS}
            if data["_ab_cdc_deleted_at"] is not None:
                deletes += 1
                self.assertEqual(data["_ab_cdc_updated_at"], data["_ab_cdc_deleted_at"])
                self.assertEqual(last[data["id"]], columns)
            last[data["id"]] = columns
        self.assertGreater(deletes, 50, "hardly anything was deleted")

    def test_rows_without_unchanged_blobs_and_with_partial_json_equal_the_truth(self):
        self.changes("--row-image", "noblob", "--partial-json")


if __name__ == "__main__":
    unittest.main()
