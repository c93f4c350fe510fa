"""States: what is written, every form that is read back, and what full refresh and starting positions do with them."""
import json
import unittest

from tests.e2e import protobuf
from tests.e2e.harness import (
    BranchTest,
    configure,
    cursors_of,
    difference,
    fold,
    move_cursors,
    record_stream,
    sbtest_truth,
    shards_of,
    state_stream,
    stream_of,
)


def without_namespace(state):
    state = json.loads(json.dumps(state))
    for entry in state:
        del entry["stream"]["stream_descriptor"]["namespace"]
    return state


def legacy(state):
    """The state of the older connector: one object with base64 cursors, keyed keyspace:table."""
    streams = {}
    for entry in state:
        keyspace, table = stream_of(entry["stream"]["stream_descriptor"])
        shards = {name: {"cursor": shard["cursor"]} for name, shard in shards_of(entry).items()}
        streams[f"{keyspace}:{table}"] = {"shards": shards}
    return {"streams": streams}


class StateForms(BranchTest):
    """A first read of a quiet branch, its state in another form: nothing is read again, nothing is lost."""

    def setUp(self):
        self.server = self.branch(["commerce:2"], tables=2, rows=50)
        self.reader = self.connector(self.server.config())
        self.first = self.reader.read()
        self.state = self.first.state_file()
        self.assertEqual(100, len(self.first.records))

    def assert_nothing_again(self, state, count=0):
        transcript = self.reader.read(state=state)
        self.assertEqual(count, len(transcript.records), transcript.explain())
        positions = {state_stream(s): cursors_of(s) for s in self.state}
        after = {state_stream(s): cursors_of(s) for s in transcript.states}
        self.assertEqual(positions, after)
        return transcript

    def test_states_are_per_stream_with_every_shard_and_its_cursor(self):
        """S2, S8, S21: base64 cursors of psdbconnect's TableCursor, no data key."""
        self.assertEqual(2, len(self.state))
        for state in self.first.states:
            self.assertNotIn("data", state)
            keyspace, _ = state_stream(state)
            cursors = cursors_of(state)
            self.assertEqual({"-80", "80-"}, set(cursors))
            for shard, cursor in cursors.items():
                self.assertEqual((keyspace, shard), (cursor.keyspace, cursor.shard))
        for state in self.state:
            for shard, cursor in cursors_of(state).items():
                self.assertRegex(cursor.position, r"^MySQL56/[0-9a-f-]{36}:1")
                self.assertIsNone(cursor.lastpk)
                self.assertIsInstance(shards_of(state)[shard]["cdc_cursor"], int)

    def test_as_the_platform_hands_it_back(self):
        self.assert_nothing_again(self.state)

    def test_in_another_order(self):
        self.assert_nothing_again(list(reversed(self.state)))

    def test_without_explicit_nulls(self):
        self.assert_nothing_again([{"type": "STREAM", "stream": s["stream"]} for s in self.state])

    def test_without_namespace(self):
        """Airbyte's acceptance tests drop the namespace."""
        self.assert_nothing_again(without_namespace(self.state))

    def test_without_cdc_cursor(self):
        """The per-stream states of newer versions of the older connector."""
        state = json.loads(json.dumps(self.state))
        for entry in state:
            for shard in entry["stream"]["stream_state"]["shards"].values():
                del shard["cdc_cursor"]
        self.assert_nothing_again(state)

    def assert_first_states_come_first(self, transcript):
        kinds = [m["type"] for m in transcript.messages if m["type"] in ("STATE", "RECORD")]
        streams = [state_stream(s) for s in transcript.states]
        self.assertEqual(["STATE", "STATE"], kinds[:2])
        self.assertEqual({("commerce", "sbtest1"), ("commerce", "sbtest2")}, set(streams[:2]))
        for state in transcript.states[:2]:
            self.assertEqual(0, state["sourceStats"]["recordCount"])

    def test_bare_legacy_object(self):
        self.assert_first_states_come_first(self.assert_nothing_again(legacy(self.state)))

    def test_legacy_message(self):
        self.assert_first_states_come_first(
            self.assert_nothing_again([{"type": "LEGACY", "data": legacy(self.state), "stream": None, "global": None}])
        )

    def test_untyped_message_with_data(self):
        self.assert_first_states_come_first(self.assert_nothing_again([{"data": legacy(self.state)}]))

    def test_states_come_before_records_when_a_legacy_table_is_new(self):
        """The platform drops the legacy state at the first STREAM one: all of them come before any record."""
        state = legacy(self.state)
        del state["streams"]["commerce:sbtest2"]
        transcript = self.reader.read(state=state)
        self.assertEqual({("commerce", "sbtest2")}, {record_stream(r) for r in transcript.records})
        self.assertEqual(50, len(transcript.records))
        self.assert_first_states_come_first(transcript)

    def test_nothing_in_every_form_is_no_state(self):
        descriptor = {"name": "sbtest1", "namespace": "commerce"}
        for state in (
            [],
            {},
            {"streams": {}},
            [{"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": None}}],
            [{"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": {}}}],
            [{"type": "STREAM", "stream": {"stream_descriptor": descriptor, "stream_state": {"shards": {}}}}],
            [{"type": "LEGACY", "data": {}}],
        ):
            with self.subTest(state=state):
                self.assertEqual(100, len(self.reader.read(state=state).records))

    def test_stale_shards_and_tables_are_tolerated_with_a_warning(self):
        """S22: shard keys such as `a_etl/-` of other keyspaces, and tables that are gone."""
        state = json.loads(json.dumps(self.state))
        shards = state[0]["stream"]["stream_state"]["shards"]
        shards["other_etl/-"] = {"cursor": protobuf.TableCursor("other_etl/-", "commerce", "").encode()}
        gone = json.loads(json.dumps(state[1]))
        gone["stream"]["stream_descriptor"]["name"] = "gone"
        transcript = self.reader.read(state=[*state, gone])
        self.assertEqual([], transcript.records)
        self.assertNotIn(("commerce", "gone"), {state_stream(s) for s in transcript.states})
        warnings = [log for log in transcript.logs if log.startswith("WARN")]
        self.assertTrue(any("gone" in w for w in warnings), transcript.explain())

    def test_an_unknown_position_is_told_and_not_waited_for(self):
        """A position of another server, and one of the future: an error that says what to do, or a new copy."""
        for position in ("MySQL56/aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee:1-7", None):
            state = json.loads(json.dumps(self.state))
            move_cursors(state[0], lambda own, other=position: other or own.split(":")[0] + ":1-999999999")
            with self.subTest(position=position):
                transcript = self.reader.read(state=state, ok=False)
                self.assertEqual(1, transcript.code, transcript.explain())
                stream = state[0]["stream"]["stream_descriptor"]
                self.assertEqual([stream], [e["stream_descriptor"] for e in transcript.errors])
                self.assertEqual("config_error", transcript.errors[0]["failure_type"])
                status = dict(transcript.statuses)
                self.assertEqual("INCOMPLETE", status[stream_of(stream)])
                other = stream_of(state[1]["stream"]["stream_descriptor"])
                self.assertEqual("COMPLETE", status[other], "the other streams still run")

                resync = self.connector(
                    self.server.config(invalid_cdc_cursor_position_behavior="Re-sync data"), self.reader.catalog
                ).read(state=state)
                self.assertEqual({stream_of(stream)}, {record_stream(r) for r in resync.records})
                self.assertEqual(50, len(resync.records))
                self.assertTrue(any(log.startswith("WARN") for log in resync.logs), resync.explain())


class HalfCopies(BranchTest):
    def half(self, cdc_cursor):
        """A state in the middle of the copy: ids up to 30 of 100 were delivered."""
        server = self.branch(["commerce:1"], rows=100)
        reader = self.connector(server.config())
        done = reader.read().state_file()
        cursor = cursors_of(done[0])["-"]
        cursor.lastpk = protobuf.last_known_pk("id", 30)
        shard = {"cursor": cursor.encode()}
        if cdc_cursor:
            shard["cdc_cursor"] = shards_of(done[0])["-"]["cdc_cursor"]
        done[0]["stream"]["stream_state"]["shards"]["-"] = shard
        return reader, done

    def test_a_half_copy_goes_on_behind_its_last_key(self):
        """P8, S8: the last key is sent, the rows before it are not read again."""
        reader, state = self.half(cdc_cursor=True)
        transcript = reader.read(state=state)
        self.assertEqual(list(range(31, 101)), sorted(r["data"]["id"] for r in transcript.records))

    def test_a_half_copy_of_the_older_connector_starts_over(self):
        """It dropped changes there: only a new copy is safe."""
        reader, state = self.half(cdc_cursor=False)
        transcript = reader.read(state=state)
        self.assertEqual(list(range(1, 101)), sorted(r["data"]["id"] for r in transcript.records))

    def test_a_last_key_without_fields_never_reaches_the_server(self):
        reader, state = self.half(cdc_cursor=True)
        shard = state[0]["stream"]["stream_state"]["shards"]["-"]
        cursor = protobuf.TableCursor.decode(shard["cursor"])
        cursor.lastpk = protobuf.bytes_field(4, protobuf.row([b"30"]))
        shard["cursor"] = cursor.encode()
        transcript = reader.read(state=state, ok=False)
        if transcript.code == 0:
            self.assertEqual(100, len({r["data"]["id"] for r in transcript.records}))
        else:
            self.assertEqual("config_error", transcript.errors[0]["failure_type"], transcript.explain())

    def test_states_of_a_copy_deliver_exactly_the_remaining_rows(self):
        """Airbyte's rule for sequential states, for every state of a read with many."""
        server = self.branch(["commerce:2"], tables=3, rows=60)
        reader = self.connector(server.config(max_streams=1))
        configured = configure(reader.catalog)
        whole = reader.read(configured)
        delivered = []
        states = []
        seen = {}
        for message in whole.messages:
            if message["type"] == "RECORD":
                delivered.append(message["record"])
            elif message["type"] == "STATE":
                seen[state_stream(message["state"])] = message["state"]
                states.append((len(delivered), list(seen.values())))
        self.assertGreaterEqual(len(states), 3)
        expected = {(record_stream(r), r["data"]["id"]) for r in whole.records}
        for count, state in states:
            rest = reader.read(configured, [{"type": "STREAM", "stream": s["stream"]} for s in state])
            got = {(record_stream(r), r["data"]["id"]) for r in delivered[:count] + rest.records}
            self.assertEqual(expected, got)
            self.assertLessEqual(len(rest.records), 180)
        self.assertEqual(0, len(rest.records), "nothing remains after the last state")


class StartingGtids(BranchTest):
    def setUp(self):
        self.server = self.branch(["commerce:2"], tables=1, rows=100, write_rate=5000, write_total=1500)
        self.reader = self.connector(self.server.config())
        self.transcripts = [self.reader.read()]
        self.state = self.read_until_quiet(
            self.reader, configure(self.reader.catalog), self.transcripts[0].state_file(), self.transcripts
        )
        self.begin = {s: c.position for s, c in cursors_of(self.transcripts[0].states[-1]).items()}
        self.end = {s: c.position for s, c in cursors_of(self.state[0]).items()}

    def with_gtids(self, positions, as_text=True):
        value = {"commerce": positions}
        return self.connector(
            self.server.config(starting_gtids=json.dumps(value) if as_text else value), self.reader.catalog
        )

    def test_without_state_the_tables_are_not_copied(self):
        """S17"""
        for as_text in (True, False):
            with self.subTest(as_text=as_text):
                transcript = self.with_gtids(self.end, as_text).read()
                self.assertEqual([], transcript.records)
                self.assertEqual(self.end, {s: c.position for s, c in cursors_of(transcript.states[-1]).items()})
                said = [log for log in transcript.logs if "starting_gtids" in log]
                self.assertTrue(said, transcript.explain())

    def test_changes_after_the_positions_are_delivered(self):
        transcript = self.with_gtids(self.begin).read()
        later = fold(self.transcripts[1:])
        self.assertEqual("", difference(fold([transcript]), later))

    def test_the_state_wins(self):
        """S17: with both, the state counts."""
        transcript = self.with_gtids(self.begin).read(state=self.state)
        self.assertEqual([], transcript.records)

    def test_a_shard_without_a_position_is_copied(self):
        transcript = self.with_gtids({"-80": self.end["-80"]}).read()
        truth = self.server.stop()
        expected = {int(line["row"]["id"]) for line in truth if line["shard"] == "80-"}
        self.assertEqual(expected, {r["data"]["id"] for r in transcript.records})

    def test_positions_that_are_none_are_a_config_error(self):
        for positions in ({"-80": "garbage"}, {"-80": "MySQL56/x:1"}, {"-80": 5}):
            with self.subTest(positions=positions):
                transcript = self.with_gtids(positions).read(ok=False)
                self.assertEqual(1, transcript.code, transcript.explain())
                self.assertIn("starting_gtids", transcript.errors[0]["message"])


class FullRefresh(BranchTest):
    def setUp(self):
        self.server = self.branch(["commerce:2"], tables=1, rows=100)
        self.reader = self.connector(self.server.config())

    def configured(self, **marks):
        return configure(self.reader.catalog, "full_refresh", **marks)

    def test_a_finished_refresh_stays_finished_within_its_generation_and_sync(self):
        marks = {"generation_id": 7, "minimum_generation_id": 7, "sync_id": 3}
        first = self.reader.read(self.configured(**marks))
        self.assertEqual(100, len(first.records))
        again = self.reader.read(self.configured(**marks), first.state_file())
        self.assertEqual(0, len(again.records))

    def test_a_new_generation_or_sync_starts_over(self):
        marks = {"generation_id": 7, "minimum_generation_id": 7, "sync_id": 3}
        state = self.reader.read(self.configured(**marks)).state_file()
        for changes in ({"generation_id": 8}, {"sync_id": 4}, {"generation_id": None}, {"sync_id": None}):
            with self.subTest(changes=changes):
                transcript = self.reader.read(self.configured(**{**marks, **changes}), state)
                self.assertEqual(100, len(transcript.records))

    def test_without_marks_a_refresh_starts_over(self):
        state = self.reader.read(self.configured()).state_file()
        self.assertEqual(100, len(self.reader.read(self.configured(), state).records))

    def test_the_modes_ignore_each_others_states(self):
        """S4"""
        marks = {"generation_id": 7, "minimum_generation_id": 7, "sync_id": 3}
        incremental = self.reader.read().state_file()
        refresh = self.reader.read(self.configured(**marks), incremental)
        self.assertEqual(100, len(refresh.records))
        self.assertTrue(any(log.startswith("INFO") and "sbtest1" in log for log in refresh.logs), refresh.explain())
        back = self.reader.read(state=refresh.state_file())
        self.assertEqual(100, len(back.records))

    def test_refresh_equals_the_truth(self):
        transcript = self.reader.read(self.configured())
        truth = sbtest_truth(self.server.stop())
        self.assertEqual("", difference(fold([transcript]), truth))


class ManyShards(BranchTest):
    def test_large_states_are_packed_and_read_back(self):
        """256 shards with four-digit positions exceed 64 KiB unpacked only with long positions; both forms work."""
        server = self.branch(["commerce:1024"], rows=1024)
        reader = self.connector(server.config())
        first = reader.read()
        self.assertEqual(1024, len(first.records))
        body = first.states[-1]["stream"]["stream_state"]
        self.assertIn("packed", body, "1,024 shards do not fit into 64 KiB")
        self.assertLess(max(len(json.dumps(s)) for s in first.states), 65536 * 4)
        self.assertEqual(1024, len(shards_of(first.states[-1])))
        state = first.state_file()
        self.assertEqual([], reader.read(state=state).records)
        state[0]["stream"]["stream_state"] = {"shards": shards_of(state[0])}
        self.assertEqual([], reader.read(state=state).records)


if __name__ == "__main__":
    unittest.main()
