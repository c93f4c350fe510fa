"""Keyspaces that are resharded under the reader, between syncs and during them."""
import unittest

from tests.e2e.faults import BURST, FaultTest
from tests.e2e.harness import configure, cursors_of, difference, fold, sbtest_truth, shards_of

SPLIT = {"do": "reshard", "from": ["-80"], "to": ["-40", "40-80"]}
MERGE = {"do": "reshard", "from": ["-80", "80-"], "to": ["-"]}
AFTER_SPLIT = {"-40", "40-80", "80-"}
AFTER_MERGE = {"-"}
REFRESH = "Refresh and remove records"


class ReshardTest(FaultTest):
    def busy(self, faults, tables=1):
        return self.faulty(faults, ["commerce:2"], tables=tables, rows=6000, write_rate=3000, write_total=3000)

    def assert_shards(self, transcript, expected):
        self.assertTrue(transcript.states)
        for state in transcript.states:
            self.assertEqual(expected, set(shards_of(state)))
            for cursor in cursors_of(state).values():
                self.assertTrue(cursor.position)
                self.assertIsNone(cursor.lastpk)

    def assert_truth_but_for_deletes(self, transcripts, branch):
        """Stops the branch; what was read equals its rows, but for rows that were deleted."""
        truth = sbtest_truth(branch.stop())
        rows = fold(transcripts)
        for stream in rows:
            for key in set(rows[stream]) - set(truth[stream]):
                del rows[stream][key]
        self.assertEqual("", difference(rows, truth))

    def resharded(self, faults, expected, between=None, tables=1, copies=1):
        """Reads around reshards while the branch is written to: the truth, states of the new shards alone, no more copies
        than needed."""
        branch = self.busy(faults, tables)
        transcripts = self.read_to_the_truth(branch, between and (lambda: between(branch)))
        self.assertEqual(sorted(fault["do"] for fault in faults), sorted(self.happened(branch)))
        self.assert_shards(transcripts[-1], expected)
        delivered = sum(len(t.records) for t in transcripts)
        self.assertLess(delivered, copies * 6000 * tables + 2 * (3000 + BURST), "rows were copied again")
        return transcripts


class BetweenSyncs(ReshardTest):
    def test_a_split(self):
        fault = {**SPLIT, "on_signal": True}
        self.resharded([fault], AFTER_SPLIT, lambda branch: self.set_off(branch, "reshard"))

    def test_a_merge_of_two_tables(self):
        fault = {**MERGE, "on_signal": True}
        self.resharded([fault], AFTER_MERGE, lambda branch: self.set_off(branch, "reshard"), tables=2)

    def test_two_reshards(self):
        """-80 and 80- become -, then four shards: the old positions lead through both."""
        again = {"do": "reshard", "from": ["-"], "to": ["-40", "40-80", "80-c0", "c0-"], "on_signal": True}

        def both(branch):
            self.set_off(branch, "reshard")
            self.set_off(branch, "reshard")

        self.resharded([{**MERGE, "on_signal": True}, again], set(again["to"]), both)

    def test_shards_that_come_back_under_their_old_names(self):
        """The names are the same, the servers are not: the position is another's, and that is told at once."""
        back = {"do": "reshard", "from": ["-"], "to": ["-80", "80-"], "on_signal": True}
        branch = self.busy([{**MERGE, "on_signal": True}, back])
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        first = connector.read(configured)
        self.set_off(branch, "reshard")
        self.set_off(branch, "reshard")
        failed, seconds = self.failed_read(connector, configured, first.state_file())
        self.assertLess(seconds, 20)
        self.assertEqual("config_error", failed.errors[0]["failure_type"])
        self.assertIn(REFRESH, failed.errors[0]["message"])
        self.assertEqual([], failed.records)

    def test_old_shards_that_are_gone_for_good(self):
        gone = {**SPLIT, "on_signal": True, "keep_old": False}
        branch = self.busy([gone])
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        first = connector.read(configured)
        self.set_off(branch, "reshard")
        failed, seconds = self.failed_read(connector, configured, first.state_file())
        self.assertLess(seconds, 20)
        self.assertIn("-80", failed.errors[0]["message"])
        self.assertIn(REFRESH, failed.errors[0]["message"])
        healing = self.connector(branch.config(invalid_cdc_cursor_position_behavior="Re-sync data"))
        transcripts = [healing.read(configured, failed.state_file(first.state_file()))]
        self.assertTrue([log for log in transcripts[0].logs if "stay in the destination" in log], transcripts[0].explain())
        self.read_until_quiet(healing, configured, transcripts[0].state_file(), transcripts)
        self.assert_shards(transcripts[-1], AFTER_SPLIT)
        # As the warning says, rows that were deleted while nobody could read stay.
        self.assert_truth_but_for_deletes([first, failed, *transcripts], branch)


class PurgedLogs(ReshardTest):
    """Binary logs that go while the way from the saved positions leads through a reshard: what nobody can read any more is told,
    and copied again where that is configured."""

    def purged(self, shard, **keys):
        """A branch that was read, then written to, split, written to again and purged; the catalog and the first read."""
        purge = {"do": "purge", "shard": shard, "on_signal": True, **keys}
        branch = self.busy([{**SPLIT, "on_signal": True}, purge])
        configured = configure(self.connector(branch.config()).catalog)
        first = self.connector(branch.config()).read(configured)
        branch.burst()
        self.set_off(branch, "reshard")
        branch.burst()
        self.set_off(branch, "purge")
        return branch, configured, first

    def heal(self, branch, configured, transcripts, **config):
        """Reads with "Re-sync data" from what the reads so far have saved, to the truth."""
        healing = self.connector(branch.config(invalid_cdc_cursor_position_behavior="Re-sync data", **config))
        state = None
        for transcript in transcripts:
            state = transcript.state_file(state or ())
        again = healing.read(configured, state)
        self.assertTrue([log for log in again.logs if "is copied again; rows deleted meanwhile stay" in log], again.explain())
        transcripts = [*transcripts, again]
        self.read_until_quiet(healing, configured, again.state_file(state), transcripts)
        self.assert_shards(transcripts[-1], AFTER_SPLIT)
        self.assert_truth_but_for_deletes(transcripts, branch)

    def test_an_old_shard_that_is_kept_and_was_purged(self):
        """Nobody can be asked whether its binary logs are gone, so it may as well be an outage: that is told with each sync, and
        copied again only where it is configured."""
        branch, configured, first = self.purged("-80", search_ms=1000)
        connector = self.connector(branch.config(max_retries=1))
        transcripts = [first]
        state = first.state_file()
        for _ in range(2):
            failed, seconds = self.failed_read(connector, configured, state)
            self.assertLess(seconds, 30)
            self.assertEqual("transient_error", failed.errors[0]["failure_type"])
            self.assertIn("No primary tablet of commerce/-80 could serve the stream.", failed.errors[0]["message"])
            self.assertIn("If it ends like this with each sync, they have no tablets any more", failed.errors[0]["message"])
            self.assertIn(REFRESH, failed.errors[0]["message"])
            transcripts.append(failed)
            state = failed.state_file(state)
            self.assertEqual({"-80", "80-"}, set(shards_of(state[-1])))
        self.heal(branch, configured, transcripts, max_retries=1)

    def lost_new_shard(self, word, **keys):
        """The old shard brings the stream to a new one whose binary logs are gone. That attempt knows only that nothing comes;
        the one after it begins there, and finds out why."""
        config = {"timeout_seconds": keys.pop("timeout_seconds", 60)}
        branch, configured, first = self.purged("-40", **keys)
        connector = self.connector(branch.config(max_retries=1, **config))
        failed, seconds = self.failed_read(connector, configured, first.state_file())
        self.assertLess(seconds, 50)
        self.assertEqual(1, len([log for log in failed.logs if word in log and "Trying again" in log]), failed.explain())
        self.assertEqual("config_error", failed.errors[0]["failure_type"])
        self.assertIn("The binary logs that the saved position of commerce/-40 needs were purged.", failed.errors[0]["message"])
        self.assertIn(REFRESH, failed.errors[0]["message"])
        self.assert_shards(failed, AFTER_SPLIT)
        self.heal(branch, configured, [first, failed], **config)

    def test_a_new_shard_that_was_purged_and_vtgate_that_gives_up(self):
        self.lost_new_shard("No primary tablet of commerce/-40 could serve the stream", search_ms=15_000)

    def test_a_new_shard_that_was_purged_and_a_stream_that_stands_still(self):
        self.lost_new_shard("brought nothing new for 2 s", timeout_seconds=2)


class DuringSyncs(ReshardTest):
    def test_a_split_while_a_copy_runs(self):
        self.resharded([{**SPLIT, "phase": "copy", "rows": 1500}], AFTER_SPLIT, copies=2)

    def test_a_merge_while_copies_run(self):
        self.resharded([{**MERGE, "phase": "copy", "rows": 1500}], AFTER_MERGE, copies=2)

    def test_a_split_while_a_stream_catches_up(self):
        fault = {**SPLIT, "phase": "binlog", "rows": 20, "on_signal": True}
        self.resharded([fault], AFTER_SPLIT, lambda branch: self.arm(branch, "reshard"))

    def test_a_merge_while_streams_catch_up(self):
        fault = {**MERGE, "phase": "binlog", "rows": 20, "on_signal": True}
        self.resharded([fault], AFTER_MERGE, lambda branch: self.arm(branch, "reshard"))

    def test_a_split_between_the_list_of_shards_and_their_positions(self):
        """The old shard's stop position is past its journal: its stream comes to the new shards before the stop."""
        faults = [{**SPLIT, "phase": "peek", "on_signal": True}, {"do": "status", "phase": "peek", "on_signal": True}]

        def arm(branch):
            self.arm(branch, "reshard")
            self.arm(branch, "status")

        self.resharded(faults, AFTER_SPLIT, arm)

    def test_a_merge_between_the_list_of_shards_and_their_positions(self):
        """One shard's stream alone may not cross a merge: both are planned again, together, within the read."""
        faults = [{**MERGE, "phase": "peek"}, {"do": "status", "phase": "peek"}]
        for fault in faults:
            fault["on_signal"] = True
        branch = self.busy(faults)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        self.arm(branch, "reshard")
        self.arm(branch, "status")
        crossing = connector.read(configured, transcripts[0].state_file())
        transcripts.append(crossing)
        self.read_until_quiet(connector, configured, crossing.state_file(transcripts[0].state_file()), transcripts)
        self.assert_shards(transcripts[-1], AFTER_MERGE)
        self.assert_truth(transcripts, branch)
        self.assertEqual(["reshard", "status"], self.happened(branch))

    def broken_copy(self, fault):
        """A copy that breaks off when its shard is replaced cannot go on: it starts over on the new shards, within the
        read."""
        cut = {"do": "status", "shard": "-80", "phase": "copy", "rows": 1500}
        return self.busy([{**fault, "phase": "copy", "rows": 1500, "shard": "-80"}, cut])

    def test_a_copy_that_breaks_off_at_a_split(self):
        branch = self.broken_copy(SPLIT)
        transcripts = self.read_to_the_truth(branch)
        self.assert_shards(transcripts[-1], AFTER_SPLIT)
        self.assertEqual(["reshard", "status"], self.happened(branch))

    def test_a_copy_that_breaks_off_at_a_split_and_whose_shard_is_gone(self):
        """Nobody can tell then what was deleted since the half copy; a warning says so."""
        branch = self.broken_copy({**SPLIT, "keep_old": False})
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        self.assertTrue([log for log in transcripts[0].logs if "stay in the destination" in log], transcripts[0].explain())
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        self.assert_shards(transcripts[-1], AFTER_SPLIT)
        self.assert_truth_but_for_deletes(transcripts, branch)
        self.assertEqual(["reshard", "status"], self.happened(branch))

    def test_a_copy_that_begins_within_a_minute_after_the_reshard(self):
        """The second table waits for its turn while -80 is replaced. The shards are listed again only after a minute, so
        it is still copied from -80: its position is then behind the journal, which leads nowhere."""
        branch = self.busy([{**SPLIT, "phase": "copy", "rows": 1500, "table": "sbtest1"}], tables=2)
        transcripts = self.read_to_the_truth(branch, max_streams=1)
        self.assert_shards(transcripts[-1], AFTER_SPLIT)
        self.assertTrue([log for log in transcripts[0].logs if "was replaced by others around" in log], transcripts[0].explain())


if __name__ == "__main__":
    unittest.main()
