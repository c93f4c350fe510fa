"""Servers that change under the reader: failovers, restarts, purged binary logs."""
import contextlib
import json
import signal
import socket
import unittest

from tests.e2e.faults import FaultTest, warnings
from tests.e2e.harness import configure, cursors_of, difference, fold, move_cursors, record_stream, sbtest_truth, state_stream

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

    def test_a_read_that_begins_while_nobody_listens(self):
        """What is asked before the first stream is asked again, as streams are."""
        branch = self.faulty([{"do": "restart", "ms": 1500, "on_signal": True}], ["commerce:2"], rows=100)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        self.let_begin(branch, "restart")
        with self.assertRaises(ConnectionRefusedError):
            while True:
                with contextlib.suppress(ConnectionResetError):
                    socket.create_connection(("127.0.0.1", branch.mysql_port)).close()
        transcript = connector.read(configured)
        self.assertIn("(1 of 3)", "".join(warnings([transcript])))
        self.assert_truth([transcript], branch)


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

    def test_a_first_read_that_was_killed_is_made_good_after_the_logs_were_purged(self):
        """Whose rows were told gets a warning, as deletions may be missing; tables that were not begun lose nothing."""
        branch = self.faulty([{"do": "purge", "on_signal": True}], ["commerce:1"], tables=3, rows=20_000)
        connector = self.connector(branch.config(max_streams=1))
        configured = configure(connector.catalog)
        with connector.start_read(configured) as process:
            process.wait_for_line(b'"type":"RECORD"')
            process.signal(signal.SIGKILL)
            killed = process.transcript(cut=True)
        begun = {record_stream(r) for r in killed.records}
        self.assertEqual(1, len(begun))
        self.assertEqual(begun, {state_stream(s) for s in killed.states}, "a state stands before the first record")
        branch.burst()
        self.set_off(branch, "purge")
        again = connector.read(configured, killed.state_file())
        warned = [log for log in again.logs if "starts over, and the binary logs since it began first were purged" in log]
        self.assertEqual(1, len(warned), again.explain())
        transcripts = [killed, again]
        self.read_until_quiet(connector, configured, again.state_file(), transcripts)
        truth = {stream: rows for stream, rows in sbtest_truth(branch.stop()).items() if stream not in begun}
        self.assertEqual(2, len(truth))
        found = {stream: rows for stream, rows in fold(transcripts).items() if stream not in begun}
        self.assertEqual("", difference(found, truth))


class ForeignPositionsOnReplicas(FaultTest):
    def test_a_position_that_the_primary_does_not_have_either_is_lost(self):
        branch = self.branch(["commerce:1"], rows=50)
        connector = self.connector(branch.config(use_replica=True))
        configured = configure(connector.catalog)
        first = connector.read(configured)
        for lost in ("MySQL56/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee:1-7", None):
            states = json.loads(json.dumps(first.states[-1:]))
            move_cursors(states[0], lambda own, other=lost: other or own.split(":")[0] + ":1-999999")
            with self.subTest(position=lost):
                failed, _ = self.failed_read(connector, configured, states)
                self.assertEqual("config_error", failed.errors[0]["failure_type"])
                self.assertIn(REFRESH, failed.errors[0]["message"])


if __name__ == "__main__":
    unittest.main()
