"""Golden transcripts of all four commands: every message as it was when the file was last looked at and accepted.

PSOURCE_UPDATE_GOLDEN=1 (tests/e2e/update_golden.sh) writes them anew; the difference is then read in version control.
"""
import difflib
import itertools
import json
import os
import pathlib
import re
import unittest

from tests.e2e import protobuf
from tests.e2e.harness import GOLDEN, RECORDINGS, BranchTest, configure

UPDATE = os.environ.get("PSOURCE_UPDATE_GOLDEN") == "1"


class Normaliser:
    """Replaces what differs between two runs: times, cursors that are times, ports, speeds."""

    def __init__(self, branch):
        self.ports = {str(branch.grpc_port): "GRPC_PORT", str(branch.mysql_port): "MYSQL_PORT"}
        self.cursors = {}

    def line(self, line):
        """One line of the transcript. Numbers with a fraction keep the text that they were written with."""
        message = self.message(json.loads(line, parse_float=lambda text: f"number {text}"))
        return re.sub(r'"number ([^"]*)"', r"\1", json.dumps(message, ensure_ascii=False))

    def message(self, message):
        kind = message["type"]
        if kind == "RECORD":
            record = message["record"]
            record["emitted_at"] = 0
            data = record["data"]
            if "_ab_cdc_cursor" in data:
                data["_ab_cdc_cursor"] = self.cursor(data["_ab_cdc_cursor"])
            for column in ("_ab_cdc_updated_at", "_ab_cdc_deleted_at"):
                if data.get(column) is not None:
                    data[column] = re.sub(r"\d", "0", data[column])
        elif kind == "STATE":
            body = message["state"]["stream"]["stream_state"]
            for shard in body.get("shards", {}).values():
                shard["cursor"] = self.table_cursor(shard["cursor"])
                if "cdc_cursor" in shard:
                    shard["cdc_cursor"] = self.cursor(shard["cdc_cursor"])
        elif kind == "TRACE":
            message["trace"]["emitted_at"] = 0
        elif kind == "LOG":
            text = message["log"]["message"]
            for port, name in self.ports.items():
                text = text.replace(port, name)
            message["log"]["message"] = re.sub(r"(?<![\w.])\d+(\.\d+)?(?!\w)", "N", text)
        return message

    def cursor(self, value):
        """Cursors are times; what counts is their order, which is that of their first sight."""
        return self.cursors.setdefault(value, f"cursor {len(self.cursors) + 1}")

    @staticmethod
    def table_cursor(text):
        cursor = protobuf.TableCursor.decode(text)
        parts = {"keyspace": cursor.keyspace, "shard": cursor.shard, "position": cursor.position}
        if cursor.lastpk is not None:
            parts["lastpk"] = [[v and v.decode("utf-8", "replace") for v in row] for row in cursor.lastpk_values]
        return parts


def in_stable_order(lines):
    """Records between two other messages may come in any order of shards: sorted by their id."""
    ordered = []
    for is_record, group in itertools.groupby(lines, key=lambda line: line.startswith(b'{"type":"RECORD"')):
        group = list(group)
        ordered += sorted(group, key=lambda line: str(json.loads(line)["record"]["data"].get("id"))) if is_record else group
    return ordered


class GoldenTranscripts(BranchTest):
    maxDiff = None

    def compare(self, name, transcript, branch):
        normalise = Normaliser(branch)
        lines = [normalise.line(line) for line in in_stable_order(transcript.lines)]
        text = "\n".join([*lines, f"exit {transcript.code}"]) + "\n"
        file = GOLDEN / f"{name}.jsonl"
        if UPDATE:
            GOLDEN.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        expected = file.read_text(encoding="utf-8")
        if text != expected:
            difference = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), str(file), "this run", lineterm="", n=1
            )
            self.fail("\n".join(line[:2000] for line in difference))

    def quiet(self, **options):
        branch = self.branch(["commerce:2"], tables=2, rows=4, **options)
        # One stream at a time, so that the messages have one order.
        return branch, self.connector(branch.config(max_streams=1))

    def test_spec(self):
        branch, connector = self.quiet()
        self.compare("spec", connector.run("spec"), branch)

    def test_check(self):
        branch, connector = self.quiet()
        self.compare("check", connector.check(), branch)

    def test_check_unknown_keyspace(self):
        branch, _ = self.quiet()
        self.compare("check_unknown_keyspace", self.connector(branch.config(database="nosuch")).check(), branch)

    def test_discover(self):
        branch, connector = self.quiet()
        self.compare("discover", connector.run("discover", "--config", connector.config), branch)

    def test_read_copy_then_nothing_new(self):
        branch, connector = self.quiet()
        first = connector.read()
        self.compare("read_copy", first, branch)
        self.compare("read_nothing_new", connector.read(state=first.state_file()), branch)

    def test_read_full_refresh(self):
        branch, connector = self.quiet()
        configured = configure(connector.catalog, "full_refresh", generation_id=2, minimum_generation_id=2, sync_id=5)
        self.compare("read_full_refresh", connector.read(configured), branch)

    def test_read_unknown_table(self):
        branch, connector = self.quiet()
        configured = configure(connector.catalog, "full_refresh", only=["sbtest1"])
        configured["streams"][0]["stream"]["name"] = "nosuch"
        self.compare("read_unknown_table", connector.read(configured, ok=False), branch)

    def replay(self, name, keyspace):
        branch = self.branch(replay=[RECORDINGS / f"{name}.vstream"])
        connector = self.connector(branch.config(database=keyspace, max_streams=1))
        self.compare(f"discover_{name}", connector.run("discover", "--config", connector.config), branch)
        self.compare(f"read_{name}", connector.read(), branch)

    def test_recording_of_all_types(self):
        self.replay("copy_then_dml_unsharded", "unsharded")

    def test_recording_of_character_sets(self):
        self.replay("charsets_generated", "unsharded")

    def test_recording_of_two_shards(self):
        self.replay("sharded_copy_full", "sharded")

    def test_no_golden_file_is_left_over(self):
        source = pathlib.Path(__file__).read_text(encoding="utf-8")
        names = set(re.findall(r'self\.compare\("(\w+)"', source))
        for name in re.findall(r'self\.replay\("(\w+)"', source):
            names |= {f"discover_{name}", f"read_{name}"}
        if not UPDATE:
            self.assertEqual(names, {f.stem for f in GOLDEN.glob("*.jsonl")})


if __name__ == "__main__":
    unittest.main()
