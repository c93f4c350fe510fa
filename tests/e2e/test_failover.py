"""Servers that change under the reader: failovers, restarts, purged binary logs."""
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import configure, cursors_of

REFRESH = "Refresh and remove records"


class Servers(FaultTest):
    def test_a_failover_between_and_during_syncs(self):
        faults = [
            {"do": "failover", "phase": "copy", "rows": 1500},
            {"do": "failover", "on_signal": True},
        ]
        branch = self.faulty(faults, ["commerce:2"], rows=6000, write_rate=3000, write_total=3000)
        transcripts = self.read_to_the_truth(branch, lambda: self.set_off(branch, "failover"))
        for cursor in cursors_of(transcripts[-1].states[-1]).values():
            self.assertEqual(3, len(cursor.position.split(",")), cursor.position)

    def test_a_restart_in_the_middle_of_a_copy_and_of_a_catch_up(self):
        faults = [
            {"do": "restart", "ms": 300, "phase": "copy", "rows": 1500},
            {"do": "restart", "ms": 300, "phase": "binlog", "rows": 20, "on_signal": True},
        ]
        branch = self.faulty(faults, ["commerce:2"], rows=6000, write_rate=3000, write_total=3000)
        self.read_to_the_truth(branch, lambda: self.arm(branch, "restart"))
        self.assertEqual(2 * ["restart"], self.happened(branch))


class PurgedLogs(FaultTest):
    def test_purged_logs_are_told_soon_and_read_again_where_configured(self):
        branch = self.faulty([{"do": "purge", "on_signal": True}], ["commerce:2"], rows=500, write_rate=4000, write_total=4000)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        first = connector.read(configured)
        self.set_off(branch, "purge")
        failed, seconds = self.failed_read(connector, configured, first.state_file())
        self.assertLess(seconds, 20)
        self.assertIn("purged", failed.errors[0]["message"])
        self.assertIn(REFRESH, failed.errors[0]["message"])
        self.assertEqual("config_error", failed.errors[0]["failure_type"])
        self.assertEqual([], failed.records)
        healing = self.connector(branch.config(invalid_cdc_cursor_position_behavior="Re-sync data"))
        again = healing.read(configured, first.state_file())
        transcripts = [again]
        self.read_until_quiet(healing, configured, again.state_file(), transcripts)
        self.assert_truth(transcripts, branch)


if __name__ == "__main__":
    unittest.main()
