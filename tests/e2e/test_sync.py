"""Full and incremental reads of branches of many shapes, while they are written to, against the truth."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from tests.e2e.harness import (
    BranchTest,
    Relay,
    configure,
    cursors_of,
    make_certificate,
    record_stream,
    shards_of,
    state_stream,
)


class Shapes(BranchTest):
    """1, 2, 16 and 256 shards, 1 and 20 tables, each: a first read while the branch is written to, reads from the
    states of the one before until it is quiet, a last one without anything new; folded it equals the truth."""

    def sync(self, shards, tables, rows, write_rate, write_total):
        branch = self.branch(
            [f"commerce:{shards}"], tables=tables, rows=rows, write_rate=write_rate, write_total=write_total, seed=shards
        )
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        self.assertEqual(tables, len(configured["streams"]))
        transcripts = [connector.read(configured)]
        self.assertTrue(transcripts[0].records)
        for state in transcripts[0].states:
            self.assertEqual(shards, len(shards_of(state)))
        state = self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        self.nothing_new(connector, configured, state)
        self.assert_truth(transcripts, branch)

    def nothing_new(self, connector, configured, state):
        """S3, S6: no records, and the same cursors again."""
        transcript = connector.read(configured, state)
        self.assertEqual([], transcript.records)
        before = {state_stream(s): shards_of(s) for s in state}
        after = {state_stream(s): shards_of(s) for s in transcript.states}
        self.assertEqual(before, after)

    def test_1_shard_1_table(self):
        self.sync(1, 1, rows=3000, write_rate=4000, write_total=6000)

    def test_2_shards_1_table(self):
        self.sync(2, 1, rows=3000, write_rate=4000, write_total=6000)

    def test_1_shard_20_tables(self):
        self.sync(1, 20, rows=300, write_rate=4000, write_total=6000)

    def test_16_shards_1_table(self):
        self.sync(16, 1, rows=4000, write_rate=4000, write_total=6000)

    def test_16_shards_20_tables(self):
        self.sync(16, 20, rows=160, write_rate=4000, write_total=8000)

    def test_256_shards_1_table(self):
        self.sync(256, 1, rows=1500, write_rate=2000, write_total=4000)

    def test_several_keyspaces_in_one_read(self):
        branch = self.branch(["a:1", "a_etl:2", "x_a:4"], tables=2, rows=200, write_rate=4000, write_total=3000)
        connector = self.connector(branch.config(database="a, a_etl, x_a"))
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        state = self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        self.nothing_new(connector, configured, state)
        self.assert_truth(transcripts, branch)


class WithoutWrites(BranchTest):
    def test_a_copy_delivers_every_row_exactly_once(self):
        branch = self.branch(["commerce:4"], tables=3, rows=2000)
        transcript = self.connector(branch.config()).read()
        self.assertEqual(6000, len(transcript.records))
        self.assertEqual(6000, len({(record_stream(r), r["data"]["id"]) for r in transcript.records}))
        self.assert_truth([transcript], branch)

    def test_small_tables_lose_no_row_at_their_end(self):
        """P9, S5: 11 rows in, 11 rows out; and none, one, and rows around other round numbers."""
        for rows in (0, 1, 2, 11, 100, 101):
            with self.subTest(rows=rows):
                branch = self.branch(["commerce:2"], rows=rows)
                transcript = self.connector(branch.config()).read()
                self.assertEqual(rows, len(transcript.records))
                self.assertEqual(["STARTED", "RUNNING", "COMPLETE"], [status for _, status in transcript.statuses])

    def test_shards_without_rows_end_too(self):
        """DBZ-8053: three rows on sixteen shards."""
        branch = self.branch(["commerce:16"], rows=3)
        connector = self.connector(branch.config())
        first = connector.read()
        self.assertEqual(3, len(first.records))
        second = connector.read(state=first.state_file())
        self.assertEqual([], second.records)
        self.assert_truth([first, second], branch)

    def test_full_refresh_delivers_every_row_exactly_once_each_time(self):
        """S4; Airbyte's rule that two reads give the same records, the later ones emitted later."""
        branch = self.branch(["commerce:2"], tables=2, rows=500)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog, "full_refresh")
        first = connector.read(configured)
        second = connector.read(configured, first.state_file())
        for transcript in (first, second):
            self.assertEqual(1000, len({(record_stream(r), r["data"]["id"]) for r in transcript.records}))
            self.assertEqual(1000, len(transcript.records))
        self.assertLess(
            max(r["emitted_at"] for r in first.records), min(r["emitted_at"] for r in second.records)
        )
        self.assert_truth([second], branch)

    def test_one_stream_at_a_time_and_many_copies_give_the_same_rows(self):
        branch = self.branch(["commerce:4"], tables=3, rows=300)
        transcripts = [
            self.connector(branch.config(max_streams=1, max_copies_per_shard=1)).read(),
            self.connector(branch.config(max_streams=100, max_copies_per_shard=10)).read(),
        ]
        for transcript in transcripts:
            self.assertEqual(900, len(transcript.records))
        self.assert_truth(transcripts, branch)

    def test_only_the_configured_tables_are_read(self):
        branch = self.branch(["commerce:2"], tables=3, rows=50)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog, only=["sbtest2"])
        transcript = connector.read(configured)
        self.assertEqual({("commerce", "sbtest2")}, {record_stream(r) for r in transcript.records})
        self.assertEqual(50, len(transcript.records))

    def test_only_the_configured_shards_are_read(self):
        """S12: blanks and a trailing comma; states of those shards alone."""
        branch = self.branch(["commerce:4"], rows=400)
        connector = self.connector(branch.config(shards=" -40, c0- ,"))
        transcript = connector.read()
        self.assertTrue(transcript.states)
        for state in transcript.states:
            self.assertEqual({"-40", "c0-"}, set(shards_of(state)))
        truth = branch.stop()
        expected = {int(line["row"]["id"]) for line in truth if line["shard"] in ("-40", "c0-")}
        self.assertEqual(expected, {r["data"]["id"] for r in transcript.records})
        self.assertEqual(200, len(transcript.records), "equal key ranges hold equally many rows")

    def test_tables_added_later_are_copied_while_the_others_go_on(self):
        branch = self.branch(["commerce:2"], tables=2, rows=100)
        connector = self.connector(branch.config())
        first = connector.read(configure(connector.catalog, only=["sbtest1"]))
        second = connector.read(configure(connector.catalog), first.state_file())
        self.assertEqual({("commerce", "sbtest2")}, {record_stream(r) for r in second.records})
        self.assert_truth([first, second], branch)

    def test_shards_chosen_later_are_copied(self):
        """A saved state with fewer shards than now: the new ones are read from their beginning."""
        branch = self.branch(["commerce:2"], rows=200)
        first = self.connector(branch.config(shards="-80")).read()
        second = self.connector(branch.config()).read(state=first.state_file())
        self.assertEqual(200, len(first.records) + len(second.records))
        self.assertEqual({"-80", "80-"}, set(shards_of(second.states[-1])))
        self.assert_truth([first, second], branch)

    def test_each_tablet_type_is_read_from(self):
        """P11: copy and changes of a branch that has no other tablets than those that the configuration asks for. (What a
        configuration is told that asks for another type: test_check.)"""
        for served, changes in (("primary", {}), ("replica", {"use_replica": True}), ("rdonly", {"use_rdonly": True})):
            with self.subTest(served=served):
                branch = self.branch(["commerce:2"], rows=100, write_burst=200, options=["--tablet-types", served])
                connector = self.connector(branch.config(**changes))
                first = connector.read()
                branch.burst()
                second = connector.read(state=first.state_file())
                self.assertTrue(second.records)
                self.assert_truth([first, second], branch)

    def test_cells_are_in_peeks_and_streams(self):
        """P12: a relay hears them in each call. (local-branch itself serves every cell.)"""
        branch = self.branch(["commerce:2"], rows=100)
        relay = Relay(branch.grpc_port)
        self.addCleanup(relay.close)
        connector = self.connector(branch.config(port=relay.port, cells="zone-77,zone-78"))
        self.assertEqual("SUCCEEDED", connector.check().connection_status["status"])
        self.assertEqual(1, relay.said.count(b"zone-77,zone-78"), "the peek of the check")
        self.assertEqual(100, len(connector.read().records))
        self.assertEqual(1 + 1 + 2, relay.said.count(b"zone-77,zone-78"), "the peek of the read, and a stream for each shard")


class Secured(BranchTest):
    def test_reads_over_tls_with_a_login_equal_the_truth(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        certificate, key = make_certificate(folder.name)
        branch = self.branch(
            ["commerce:4"],
            tables=2,
            rows=500,
            write_rate=4000,
            write_total=2000,
            username="reader",
            password="secret",
            tls=(certificate, key),
        )
        connector = self.connector(branch.config(tls={"mode": "verify", "ca_certificate": certificate.read_text()}))
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        self.assert_truth(transcripts, branch)


class WhileWritten(BranchTest):
    def test_a_busy_branch_ends_at_the_stop_position(self):
        """P3, P5, P6: writes never stop, the reads do."""
        branch = self.branch(["commerce:2"], tables=2, rows=1000, write_rate=2000)
        connector = self.connector(branch.config())
        state = None
        for _ in range(3):
            started = time.monotonic()
            transcript = connector.read(state=state)
            self.assertLess(time.monotonic() - started, 30)
            self.assertTrue(transcript.records)
            state = transcript.state_file(state or ())

    def test_deleted_rows_are_marked_and_their_cursors_rise(self):
        """P14: the cursor never falls, and rises strictly for changes (the rows of one snapshot share one) and for
        each row; deletes carry the last values of the row."""
        branch = self.branch(["commerce:1"], rows=2000, write_burst=6000)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        branch.burst()
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        cursors = [[r["data"]["_ab_cdc_cursor"] for r in t.records] for t in transcripts]
        everything = [cursor for run in cursors for cursor in run]
        self.assertTrue(everything == sorted(everything), "the cursor fell")
        changes = [cursor for run in cursors[1:] for cursor in run]
        self.assertTrue(changes)
        self.assertTrue(changes == sorted(set(changes)), "two changes share a cursor")
        of_row = [(r["data"]["id"], r["data"]["_ab_cdc_cursor"]) for t in transcripts for r in t.records]
        self.assertEqual(len(of_row), len(set(of_row)))
        deletes = [r["data"] for t in transcripts for r in t.records if r["data"]["_ab_cdc_deleted_at"] is not None]
        self.assertTrue(deletes)
        for data in deletes:
            self.assertIsInstance(data["id"], int)
            self.assertEqual(119, len(data["c"]))
            self.assertEqual(data["_ab_cdc_updated_at"], data["_ab_cdc_deleted_at"])
        self.assert_truth(transcripts, branch)

    def test_without_captured_deletes_nothing_is_deleted(self):
        branch = self.branch(["commerce:1"], rows=500, write_burst=2000)
        connector = self.connector(branch.config(capture_deletes=False))
        configured = configure(connector.catalog)
        self.assertNotIn("_ab_cdc_deleted_at", configured["streams"][0]["stream"]["json_schema"]["properties"])
        transcripts = [connector.read(configured)]
        branch.burst()
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        for record in (r for t in transcripts for r in t.records):
            self.assertNotIn("_ab_cdc_deleted_at", record["data"])
        truth = {int(line["row"]["id"]) for line in branch.stop()}
        delivered = {r["data"]["id"] for t in transcripts for r in t.records}
        self.assertLess(truth, delivered, "rows that were deleted stay delivered")

    def test_metadata_names_the_position_of_its_row(self):
        """P14: with include_metadata each record says its position, copied ones too, and the sequence rises."""
        branch = self.branch(["commerce:1"], rows=200, write_rate=3000, write_total=1000)
        connector = self.connector(branch.config(include_metadata=True))
        configured = configure(connector.catalog)
        first = connector.read(configured)
        second = connector.read(configured, first.state_file())
        records = first.records + second.records
        for record in records:
            metadata = record["data"]["_planetscale_metadata"]
            self.assertRegex(metadata["vgtid_position"], r"^MySQL56/[0-9a-f-]{36}:\d")
            self.assertIsInstance(metadata["extracted_at"], int)
        for run in (first, second):
            sequence = [r["data"]["_planetscale_metadata"]["sequence_number"] for r in run.records]
            self.assertTrue(sequence == sorted(set(sequence)), "the sequence does not rise")

    def test_a_table_without_new_rows_ends_while_others_are_written(self):
        """P6: nobody writes to the table that is read, only to others of its shards: no record comes, and its positions move on
        to the stop all the same."""
        branch = self.branch(["commerce:2"], rows=200, write_rate=2000, write_burst=500, options=["--shape", "narrow"])
        connector = self.connector(branch.config())
        configured = configure(connector.catalog, only=["shape_narrow"])
        first = connector.read(configured)
        self.assertEqual(200, len(first.records))
        branch.burst()  # the writer may have had no turn between the two reads
        second = connector.read(configured, first.state_file())
        self.assertEqual([], second.records)
        self.assertEqual((("commerce", "shape_narrow"), "COMPLETE"), second.statuses[-1])
        before, after = cursors_of(first.states[-1]), cursors_of(second.states[-1])
        self.assertEqual({"-80", "80-"}, set(before))
        for shard, cursor in after.items():
            self.assertIsNone(cursor.lastpk)
            self.assertLess(self.transactions(before[shard]), self.transactions(cursor), shard)

    def transactions(self, cursor):
        """How many a position of one server has: MySQL56/UUID:1-N."""
        return int(cursor.position.rpartition(":")[2].removeprefix("1-"))

    def test_threads_of_a_read_do_not_push_each_other_off_the_processor(self):
        branch = self.branch(["commerce:4"], tables=2, rows=30_000)
        connector = self.connector(branch.config())
        with connector.start_read() as process:
            process.wait_for_line(b'"type":"RECORD"')
            # Nobody reads on: the read stands still with all its threads.
            classes = {os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{process.process.pid}/task")}
            process.signal(signal.SIGTERM)
            process.transcript()
        choose = "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))"
        may_choose = subprocess.run([sys.executable, "-c", choose], stderr=subprocess.DEVNULL).returncode == 0
        self.assertEqual({os.SCHED_BATCH if may_choose else os.sched_getscheduler(0)}, classes)


if __name__ == "__main__":
    unittest.main()
