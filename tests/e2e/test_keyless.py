"""A table without a primary key: discovered, copied, caught up with deletes, and started over when its copy breaks off."""
import signal
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import configure, cursors_of, difference, fold, record_stream, sbtest_truth

STREAM = ("commerce", "keyless")


class WithoutKey(FaultTest):
    def keyless(self, rows, **options):
        branch = self.branch(["commerce:2"], tables=1, rows=rows, options=["--keyless"], **options)
        connector = self.connector(branch.config())
        return branch, connector, configure(connector.catalog, only=["keyless"])

    def test_discovered_without_key_and_not_resumable(self):
        _, connector, _ = self.keyless(rows=1)
        streams = {s["name"]: s for s in connector.catalog["streams"]}
        self.assertEqual([], streams["keyless"]["source_defined_primary_key"])
        self.assertEqual(["_ab_cdc_cursor"], streams["keyless"]["default_cursor_field"])
        self.assertIs(False, streams["keyless"]["is_resumable"])
        self.assertIs(True, streams["sbtest1"]["is_resumable"])

    def test_copy_and_changes_equal_the_truth(self):
        """Deletes and updates tell whole rows, so that a destination without keys can follow them."""
        branch, connector, configured = self.keyless(rows=500, write_burst=1500)
        transcripts = [connector.read(configured)]
        self.assertEqual(500, len(transcripts[0].records))
        branch.burst()
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        changes = [r["data"] for t in transcripts[1:] for r in t.records]
        deletes = [data for data in changes if data["_ab_cdc_deleted_at"] is not None]
        self.assertTrue(deletes)
        for data in deletes:
            self.assertTrue(data["id"] and data["c"] and data["pad"])
        truth = {STREAM: sbtest_truth(branch.stop())[STREAM]}
        self.assertEqual("", difference(fold(transcripts), truth))

    def test_a_copy_longer_than_the_checkpoint_interval_tells_no_state_twice(self):
        """Each state in its middle says that the copy has to start over, and still none equals the one before, since records are
        between them: rules.py looks at every transcript for that, here there is something to find."""
        slow = {"do": "trickle", "phase": "copy", "rows": 1, "events": 100, "ms": 60}
        for mode in ("incremental", "full_refresh"):
            with self.subTest(mode=mode):
                branch = self.faulty([slow], ["commerce:1"], tables=1, rows=6000, options=["--keyless"])
                connector = self.connector(branch.config(checkpoint_interval_seconds=1))
                transcript = connector.read(configure(connector.catalog, mode, only=["keyless"]))
                self.assertEqual(6000, len(transcript.records))
                middle = [s for s in transcript.states if s["sourceStats"]["recordCount"] > 0][:-1]
                self.assertGreaterEqual(len(middle), 2, "the copy was too fast")
                for state in middle:
                    self.assertEqual("", cursors_of(state)["-"].position)

    def interrupted(self, mode, **marks):
        """A copy that is asked to end in its middle."""
        branch, connector, _ = self.keyless(rows=30_000)
        configured = configure(connector.catalog, mode, only=["keyless"], **marks)
        with connector.start_read(configured) as process:
            process.wait_for_line(b'"RECORD"')
            process.signal(signal.SIGTERM)
            killed = process.transcript()
        self.assertTrue(0 < len(killed.records) < 30_000)
        return branch, connector, configured, killed

    def test_an_interrupted_copy_is_stored_as_not_begun_and_starts_over(self):
        branch, connector, configured, killed = self.interrupted("incremental")
        unfinished = [c for s in killed.state_file() for c in cursors_of(s).values() if not c.position]
        self.assertTrue(unfinished)
        for cursor in unfinished:
            self.assertIsNone(cursor.lastpk)
        again = connector.read(configured, killed.state_file())
        # All rows of a shard that was not done; on a slow machine the other one may have been.
        self.assertEqual(15_000 * len(unfinished), len(again.records))
        self.assertEqual("", difference(fold([killed, again]), {STREAM: sbtest_truth(branch.stop())[STREAM]}))

    def test_a_full_refresh_whose_stream_breaks_ends_without_a_row_twice(self):
        """A destination could not find the rows that come again: the platform's next attempt has a new generation."""
        breaks = {"do": "status", "code": "UNAVAILABLE", "table": "keyless", "phase": "copy", "rows": 5000, "repeat": 1}
        branch = self.faulty([breaks], ["commerce:1"], tables=1, rows=10_000, options=["--keyless"])
        connector = self.connector(branch.config())
        marks = {"generation_id": 3, "minimum_generation_id": 3, "sync_id": 8}
        configured = configure(connector.catalog, "full_refresh", only=["keyless"], **marks)
        broken = connector.read(configured, ok=False)
        self.assertEqual(1, broken.code)
        self.assertEqual("INCOMPLETE", broken.statuses[-1][1])
        self.assertIn("started over it would deliver rows twice", broken.errors[-1]["message"])
        ids = [r["data"]["id"] for r in broken.records]
        self.assertTrue(ids)
        self.assertEqual(len(ids), len(set(ids)))

    def test_an_interrupted_full_refresh_starts_over(self):
        """The platform gives the next attempt a new generation, because the stream is not resumable."""
        marks = {"generation_id": 3, "minimum_generation_id": 3, "sync_id": 8}
        branch, connector, _, killed = self.interrupted("full_refresh", **marks)
        next_attempt = configure(connector.catalog, "full_refresh", only=["keyless"], **{**marks, "generation_id": 4})
        again = connector.read(next_attempt, killed.state_file())
        self.assertEqual(30_000, len(again.records))
        self.assertEqual({STREAM}, {record_stream(r) for r in again.records})
        self.assertEqual("", difference(fold([again]), {STREAM: sbtest_truth(branch.stop())[STREAM]}))


if __name__ == "__main__":
    unittest.main()
