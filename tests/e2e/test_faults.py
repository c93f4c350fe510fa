"""Streams that break in every way that local-branch knows: what is read equals the truth, or ends with the right message."""
import unittest

from tests.e2e.faults import FaultTest, warnings
from tests.e2e.harness import SilentServer, configure, cursors_of, record_stream


class Streams(FaultTest):
    """Each fault once in a copy and once in the binary log, while the branch is written to."""

    def broken(self, fault, retried=True, **config):
        copy = {**fault, "phase": "copy", "rows": 1500}
        # Behind the first response, as in the copy: before anything has come a stream has more time.
        binlog = {**fault, "phase": "binlog", "rows": 1500, "on_signal": True}
        branch = self.faulty([copy, binlog], ["commerce:2"], rows=6000, write_rate=3000, write_total=5000)
        transcripts = self.read_to_the_truth(branch, lambda: self.arm(branch, fault["do"]), **config)
        self.assertEqual(2 * [fault["do"]], self.happened(branch))
        self.assertEqual(2 if retried else 0, len(warnings(transcripts)), "\n".join(warnings(transcripts)))
        return warnings(transcripts)

    def test_closed(self):
        self.broken({"do": "close"})

    def test_reset(self):
        self.broken({"do": "reset"})

    def test_status_with_a_text(self):
        for warning in self.broken({"do": "status", "code": "UNAVAILABLE", "message": "the tablet is on fire"}):
            self.assertIn("the tablet is on fire", warning)

    def test_garbage(self):
        self.broken({"do": "garbage", "bytes": 1000})

    def test_half_a_transaction(self):
        self.broken({"do": "half_transaction", "code": "UNKNOWN", "message": "tablet gone"})

    def test_a_transaction_that_begins_twice(self):
        self.broken({"do": "duplicate_begin"}, retried=False)

    def test_a_slow_trickle(self):
        self.broken({"do": "trickle", "ms": 5, "events": 40}, retried=False)

    def test_a_short_stall(self):
        self.broken({"do": "stall", "ms": 1200}, retried=False)

    def test_a_stall_for_ever(self):
        self.broken({"do": "stall"}, timeout_seconds=1)


class Stalls(FaultTest):
    """Servers that keep the connection open and bring nothing."""

    def stalled(self, **fault):
        return self.faulty([{"do": "stall", "phase": "copy", "rows": 1500, **fault}], ["commerce:2"], rows=6000)

    def test_p1_an_attempt_after_a_time_out_works(self):
        branch = self.stalled()
        transcripts = self.read_to_the_truth(branch, timeout_seconds=1)
        told = warnings(transcripts)
        self.assertEqual(1, len(told), "\n".join(told))
        self.assertIn("brought nothing new for 1 s (timeout_seconds)", told[0])
        self.assertEqual(["stall"], self.happened(branch))

    def test_p13_a_server_that_stalls_each_time_is_noticed_and_given_up(self):
        branch = self.stalled(repeat=1000, shard="-80")
        connector = self.connector(branch.config(timeout_seconds=1, max_retries=0))
        failed, seconds = self.failed_read(connector, configure(connector.catalog))
        self.assertLess(seconds, 30)
        self.assertEqual("transient_error", failed.errors[0]["failure_type"])
        self.assertIn("brought nothing new for 1 s (timeout_seconds)", failed.errors[0]["message"])
        self.assertEqual("INCOMPLETE", dict(failed.statuses)[("commerce", "sbtest1")])
        cursors = cursors_of(failed.states[-1])
        self.assertTrue(cursors["80-"].position and cursors["80-"].lastpk is None, "the other shard was read to its end")

    def test_p13_heartbeats_are_no_progress(self):
        """They come every 5 s: a limit above that is reached all the same."""
        branch = self.stalled(heartbeats=True)
        transcripts = self.read_to_the_truth(branch, timeout_seconds=6)
        told = warnings(transcripts)
        self.assertEqual(1, len(told), "\n".join(told))
        self.assertIn("brought nothing new for 6 s (timeout_seconds)", told[0])

    def test_a_server_that_accepts_and_never_answers_ends_a_read_at_its_peek(self):
        """gRPC gives a connection 20 s to become one; then each attempt counts."""
        silent = SilentServer()
        self.addCleanup(silent.close)
        branch = self.branch(["commerce:1"], rows=10)
        configured = configure(self.connector(branch.config()).catalog)
        connector = self.connector(branch.config(port=silent.port, max_retries=0, timeout_seconds=1))
        failed, seconds = self.failed_read(connector, configured)
        self.assertLess(seconds, 30)
        self.assertEqual("transient_error", failed.errors[0]["failure_type"])
        self.assertIn("No VStream connection for commerce/-", failed.errors[0]["message"])
        self.assertEqual([], failed.records)

    def test_a_server_that_falls_silent_behind_its_peek(self):
        """Each attempt ends at timeout_seconds; one that has brought something does not count against max_retries."""
        branch = self.faulty([{"do": "stall", "phase": "copy", "rows": 1500, "repeat": 3}], ["commerce:1"], rows=6000)
        connector = self.connector(branch.config(timeout_seconds=1, max_retries=1))
        transcript = connector.read(configure(connector.catalog))
        told = warnings([transcript])
        self.assertEqual(3, len(told), "each attempt brought something, so none of them counts")
        self.assertEqual(6000, len({r["data"]["id"] for r in transcript.records}))

    def test_p2_a_slow_peek_passes(self):
        """The time limits of a stream are not those of a peek, during which vtgate may look for a tablet."""
        branch = self.faulty([{"do": "stall", "ms": 3000, "phase": "peek"}], ["commerce:2"], rows=100)
        transcripts = self.read_to_the_truth(branch, timeout_seconds=1)
        self.assertEqual([], warnings(transcripts))
        self.assertEqual(["stall"], self.happened(branch))

    def test_a_peek_that_waits_for_a_tablet_is_asked_anew(self):
        """vtgate looks for one every 30 s only, and sends heartbeats meanwhile; the next call finds it at once."""
        branch = self.faulty([{"do": "stall", "heartbeats": True, "phase": "peek"}], ["commerce:2"], rows=100)
        transcripts = self.read_to_the_truth(branch)
        told = warnings(transcripts)
        self.assertEqual(1, len(told), told)
        self.assertIn("within 10 s", told[0])


class Limits(FaultTest):
    def test_an_oversized_message_is_an_error_of_its_table_only(self):
        fault = {"do": "oversized", "table": "sbtest2", "repeat": 100}
        branch = self.faulty([fault], ["commerce:2"], tables=3, rows=300)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        transcript, seconds = self.failed_read(connector, configured)
        self.assertLess(seconds, 20)
        self.assertEqual(["sbtest2"], [e["stream_descriptor"]["name"] for e in transcript.errors])
        self.assertIn("larger than", transcript.errors[0]["message"])
        self.assertEqual({("commerce", "sbtest1"), ("commerce", "sbtest3")}, {record_stream(r) for r in transcript.records})
        self.assertEqual(600, len(transcript.records))
        self.assertEqual("INCOMPLETE", dict(transcript.statuses)[("commerce", "sbtest2")])

    def test_a_peek_that_fails_is_told_and_tried_again(self):
        fault = {"do": "status", "phase": "peek", "code": "UNAVAILABLE", "message": "not yet", "repeat": 2}
        for retries, ends_well in ((2, True), (1, False)):
            with self.subTest(retries=retries):
                connector = self.connector(self.faulty([fault], ["commerce:1"], rows=5).config(max_retries=retries))
                transcript = connector.read(ok=ends_well)
                told = [line for line in transcript.logs if "Trying again in" in line]
                self.assertEqual(retries, len(told), told)
                self.assertIn("not yet", told[0])
                self.assertIn(f"(1 of {retries})", told[0])
                if ends_well:
                    self.assertEqual(5, len(transcript.records))
                else:
                    self.assertIn("Given up after 2 attempts.", transcript.errors[0]["message"])

    def test_more_failures_than_retries_end_the_read_and_the_next_goes_on(self):
        fault = {"do": "status", "message": "not today", "shard": "-80", "repeat": 3}
        branch = self.faulty([fault], ["commerce:2"], rows=6000)
        connector = self.connector(branch.config(max_retries=1))
        configured = configure(connector.catalog)
        failed, _ = self.failed_read(connector, configured)
        self.assertIn("not today", failed.errors[0]["message"])
        self.assertEqual("INCOMPLETE", dict(failed.statuses)[("commerce", "sbtest1")])
        state = failed.state_file()
        cursors = cursors_of(state[0])
        self.assertTrue(cursors["80-"].position and cursors["80-"].lastpk is None, "the other shard was read to its end")
        transcripts = [failed]
        for _ in range(3):
            transcripts.append(connector.read(configured, state, ok=False))
            state = transcripts[-1].state_file(state)
            if transcripts[-1].code == 0:
                break
        self.assertEqual(0, transcripts[-1].code, transcripts[-1].explain())
        self.assert_truth(transcripts, branch)


class Peeks(FaultTest):
    def test_a_peek_that_fails_once(self):
        fault = {"do": "status", "phase": "peek", "message": "no peeking"}
        branch = self.faulty([fault], ["commerce:2"], rows=100)
        self.read_to_the_truth(branch)
        self.assertEqual(["status"], self.happened(branch))


if __name__ == "__main__":
    unittest.main()
