"""Reads of recordings of a real Vitess, replayed by local-branch: the rows that the recording holds come out."""
import collections
import json
import re
import unittest

from tests.e2e import protobuf
from tests.e2e.harness import RECORDINGS, BranchTest, Connector, LocalBranch, configure, cursors_of, fold, record_stream

INTEGERS = {257, 770, 259, 772, 261, 774, 263, 776, 265, 778}
TEXTS = {6165, 6167, 6163}
UTF8 = {33, 45, 46, 83, 76, 223, 224, 255, 192, 246, 278, 309}
PRIMARY_KEY = 2


def recorded_rows(file):
    """{(keyspace, table): {key: {column: value}}}: what the events of a recording leave behind, read without the
    connector's code. Only columns whose text is the value (integers, UTF-8 texts) are compared."""
    tables = {}
    shapes = {}
    for event in protobuf.events(file):
        if event.kind == protobuf.FIELD:
            columns = []
            for field in protobuf.all_of(event.body, 2):
                name = protobuf.one_of(field, 1, b"").decode()
                columns.append(
                    (name, *(protobuf.one_of(field, number, 0) for number in (2, 8, 10)))
                )
            shapes[(_table(event.body), _shard(event.body))] = columns
        elif event.kind == protobuf.ROW:
            table, shard = _table(event.body), _shard(event.body)
            columns = shapes[(table, shard)]
            rows = tables.setdefault(table, {})
            for change in protobuf.all_of(event.body, 2):
                before, after = protobuf.one_of(change, 1, None), protobuf.one_of(change, 2, None)
                if before is not None:
                    rows.pop(_key(columns, protobuf.row_values(before)), None)
                if after is not None:
                    values = protobuf.row_values(after)
                    rows[_key(columns, values)] = _comparable(columns, values)
    return tables


def _table(body):
    """Of a RowEvent or a FieldEvent: both have the names in the same places."""
    name = protobuf.one_of(body, 1, b"").decode()
    keyspace = protobuf.one_of(body, 3, b"").decode()
    return (keyspace, name[len(keyspace) + 1 :] if name.startswith(keyspace + ".") else name)


def _shard(body):
    return protobuf.one_of(body, 4, b"").decode()


def _key(columns, values):
    return tuple(v for (_, _, _, flags), v in zip(columns, values) if flags & PRIMARY_KEY)


def _comparable(columns, values):
    row = {}
    for (name, kind, charset, _), value in zip(columns, values):
        if kind in INTEGERS:
            row[name] = None if value is None else int(value)
        elif kind in TEXTS and charset in UTF8:
            row[name] = None if value is None else value.decode("utf-8")
    return row


def first_request(file):
    """{(keyspace, shard): position} of the request that made a recording; "current" and copies are left out."""
    text = (RECORDINGS / (file.name.split(".")[0] + ".txt")).read_text()
    pattern = r'shard_gtids \{\s*keyspace: "([^"]*)"\s*shard: "([^"]*)"\s*gtid: "([^"]*)"'
    return {(k, s): g for k, s, g in re.findall(pattern, text.split("# end:")[0]) if g != "current"}


class Recordings(BranchTest):
    def replay(self, name, keyspace, start=False, keys=None):
        """Reads a recording to its end and once more; what came out equals what its events say. Returns the records."""
        file = RECORDINGS / name
        branch = self.branch(replay=[file])
        config = branch.config(database=keyspace)
        if start:
            positions = {**protobuf.first_positions(file), **first_request(file)}
            config["starting_gtids"] = {keyspace: {s: p for (k, s), p in positions.items() if k == keyspace}}
        connector = self.connector(config)
        configured = configure(connector.catalog)
        transcript = connector.read(configured)
        again = connector.read(configured, transcript.state_file())
        self.assertEqual([], again.records)

        expected = recorded_rows(file)
        self.assertTrue(expected)
        keys = {
            (keyspace, s["stream"]["name"]): [path[0] for path in s["stream"]["source_defined_primary_key"]]
            for s in configured["streams"]
        }
        found = fold([transcript], keys)
        compared = 0
        for stream, rows in expected.items():
            table = found.get(stream, {})
            self.assertEqual(len(rows), len(table), stream)
            key_columns = keys[stream]
            by_key = {}
            for row in rows.values():
                if all(column in row for column in key_columns):
                    by_key[tuple(row[column] for column in key_columns)] = row
            for key, row in by_key.items():
                at = key if len(key) > 1 else key[0]
                for column, value in row.items():
                    if column in table[at]:
                        found_value = table[at][column]
                        if isinstance(found_value, bool) and value is not None:
                            value = value != 0  # tinyint(1)
                        self.assertEqual(value, found_value, f"{stream} {key} {column}")
                        compared += 1
        return transcript, compared

    def test_copy_then_changes_of_all_types(self):
        transcript, compared = self.replay("copy_then_dml_unsharded.vstream", "unsharded")
        self.assertGreater(compared, 100)
        deleted = [r for r in transcript.records if r["data"]["_ab_cdc_deleted_at"]]
        self.assertTrue(deleted)

    def test_character_sets_generated_columns_and_binary_keys(self):
        transcript, compared = self.replay("charsets_generated.vstream", "unsharded")
        self.assertGreater(compared, 5)
        texts = json.dumps([r["data"] for r in transcript.records], ensure_ascii=False)
        for text in ("café €", "日本", "😀", "日本語", "Привет", "é"):
            self.assertIn(text, texts)

    def test_copy_of_two_shards(self):
        _, compared = self.replay("sharded_copy_full.vstream", "sharded")
        self.assertGreater(compared, 100)

    def test_changes_of_two_shards(self):
        _, compared = self.replay("sharded_stream.vstream", "sharded", start=True)
        self.assertGreater(compared, 5)

    def test_large_transactions_over_several_responses(self):
        transcript, compared = self.replay("large_transactions.vstream.gz", "unsharded", start=True)
        self.assertGreater(compared, 0)
        changes = collections.Counter()
        for event in protobuf.events(RECORDINGS / "large_transactions.vstream.gz"):
            if event.kind == protobuf.ROW:
                changes[_table(event.body)] += len(protobuf.all_of(event.body, 2))
        self.assertGreater(sum(changes.values()), 16_000)
        self.assertEqual(changes, collections.Counter(record_stream(r) for r in transcript.records))

    def test_schema_changes_in_the_middle(self):
        self.replay("ddl_midstream.vstream", "unsharded", start=True)

    def test_planned_failover_adds_a_server_to_the_positions(self):
        transcript, compared = self.replay("failover_planned_primary.vstream", "commerce", start=True)
        self.assertGreater(compared, 0)
        position = cursors_of(transcript.states[-1])["0"].position
        self.assertEqual(2, position.count(":1"), position)

    def test_merged_shard_alone(self):
        self.replay("resume_merged_one.vstream", "customer", start=True)

    def test_old_shards_of_a_split_are_followed_to_the_new_ones(self):
        """The saved state is the old shard's; its stream goes on with the shards that replaced it."""
        for name in ("reshard_split_one_shard_stream", "resume_old_shard_after_split", "reshard_split_journal_flag"):
            with self.subTest(recording=name):
                self.follow(name + ".vstream")

    def follow(self, name):
        file = RECORDINGS / name
        begin = {**protobuf.first_positions(file), **first_request(file)}[("customer", "-80")]
        branch = self.branch(replay=[file])
        connector = self.connector(branch.config(database="customer"))
        configured = configure(connector.catalog)
        state = []
        for stream in configured["streams"]:
            cursor = protobuf.TableCursor("-80", "customer", begin)
            state.append(
                {
                    "type": "STREAM",
                    "stream": {
                        "stream_descriptor": {"name": stream["stream"]["name"], "namespace": "customer"},
                        "stream_state": {"shards": {"-80": {"cursor": cursor.encode(), "cdc_cursor": 1}}},
                    },
                }
            )
        transcript = connector.read(configured, state, ok=False)
        self.assertEqual(0, transcript.code, transcript.explain())
        expected = recorded_rows(file)
        found = fold([transcript], {s: ["id"] for s in expected})
        for stream, rows in expected.items():
            ids = {row["id"] for row in rows.values() if "id" in row}
            self.assertEqual(ids or len(rows), set(found.get(stream, {})) if ids else len(found.get(stream, {})), stream)


class RecordedErrors(unittest.TestCase):
    def test_recordings_that_are_no_recordings_are_refused(self):
        with self.assertRaises(RuntimeError) as raised:
            LocalBranch(replay=[RECORDINGS / "README.md"]).close()
        self.assertIn("README.md", str(raised.exception))


class CurrentPeek(BranchTest):
    def test_a_branch_without_transactions_has_nothing_to_read_from_its_position(self):
        """A peek of a branch at rest: the position is the stop, no row, the same position again."""
        file = RECORDINGS / "failover_planned_primary.vstream"
        branch = LocalBranch(replay=[file])
        self.addCleanup(branch.close)
        with Connector(branch.config(database="commerce")) as connector:
            status = connector.check().connection_status
        self.assertEqual("SUCCEEDED", status["status"], status)


if __name__ == "__main__":
    unittest.main()
