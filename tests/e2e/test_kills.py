"""`read` is killed by SIGKILL at random points, again and again, and goes on from the last state of whole lines.

While the branch is written to and its streams break, copies and catch-ups are killed at any byte of the output, and at
any moment before the first one. Whatever was killed: everything that was delivered folds to the branch's rows, and what
comes twice was not covered by a state.

PSOURCE_KILLS (200) kills are spread over the tests; PSOURCE_KILL_SEED (1) draws the points. A failure prints both.
"""
import fcntl
import json
import os
import random
import select
import signal
import subprocess
import tempfile
import time
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import CONNECTOR, LIMIT, configure, cursors_of, difference, record_stream, sbtest_truth, state_stream

SEED = int(os.environ.get("PSOURCE_KILL_SEED", "1"))
KILLS = int(os.environ.get("PSOURCE_KILLS", "200"))

# Linux's smallest pipe: what lies unread in it has been written, but is not seen before the kill.
SMALL_PIPE = 4096
# Rows of one response of a copy (local-branch fills it with about 250,000 bytes), and changes of one transaction. A state
# may stand in the middle of one of them per table and shard; its rows then come again.
ROWS_OF_A_RESPONSE = 1500
# Changes that are written at a time. Few, because a copy that was killed is told all of them before it goes on.
BURST = 200
CHANGES_OF_A_TRANSACTION = 20


class Run:
    """One read that was killed, or that came to its end first."""

    def __init__(self, output, code, errors, killed):
        self.code, self.errors, self.killed = code, errors, killed
        self.lines = output.split(b"\n")
        self.cut = self.lines.pop()
        self.messages = [json.loads(line) for line in self.lines]

    def explain(self):
        told = [m for m in self.messages if m["type"] in ("LOG", "TRACE")]
        return "\n".join([f"exit {self.code}", *(json.dumps(m) for m in told[-20:]), self.errors[-2000:]])


def version_of(record):
    """What tells a record from every other: the row's version, deleted or not, and whether a copy delivered it (a
    change has a commit time, which is a whole second)."""
    data = record["data"]
    copied = not data["_ab_cdc_updated_at"].endswith(".000000Z")
    return (record_stream(record), data["id"], data["k"], data["c"], data["_ab_cdc_deleted_at"] is None, copied)


class Destination:
    """What was delivered, run by run, as the platform keeps it and as a destination that keeps everything does."""

    def __init__(self, test):
        self.test = test
        self.states = {}
        self.confirmed = {}  # (stream, id) → newest record data
        self.everything = {}
        self.covered = set()  # versions of confirmed records
        self.tail = set()  # versions that the last run delivered and no state covered
        self.history = {}  # (stream, id) → what was told of it, in order
        self.runs = 0
        self.complete = False  # a read came to its end
        self.delivered = self.repeated = self.longest_tail = self.longest_tail_ms = 0

    def keep(self, rows, stream, data):
        key = (stream, data["id"])
        if key not in rows or data["_ab_cdc_cursor"] >= rows[key]["_ab_cdc_cursor"]:
            rows[key] = data

    def take(self, run, units):
        """`units`: tables × shards."""
        self.runs += 1
        waiting = {}
        again = {True: 0, False: 0}
        for message in run.messages:
            if message["type"] == "RECORD":
                record = message["record"]
                stream, version = record_stream(record), version_of(record)
                self.delivered += 1
                if version in self.covered:
                    again[version[-1]] += 1
                self.repeated += version in self.covered or version in self.tail
                self.keep(self.everything, stream, record["data"])
                told = [self.runs, *(record["data"][name] for name in ("k", "_ab_cdc_cursor", "_ab_cdc_updated_at"))]
                self.history.setdefault((stream, record["data"]["id"]), []).append(told)
                waiting.setdefault(stream, []).append((version, record))
            elif message["type"] == "STATE":
                state = message["state"]
                stream = state_stream(state)
                now_covered = waiting.pop(stream, [])
                self.test.assertEqual(len(now_covered), state["sourceStats"]["recordCount"], run.explain())
                self.states[stream] = state
                for version, record in now_covered:
                    self.covered.add(version)
                    self.keep(self.confirmed, stream, record["data"])
        self.test.assertLessEqual(again[True], units * ROWS_OF_A_RESPONSE, "copied rows behind a state came again")
        # A copy that started over settles at its first snapshot: what had changed since comes again, until a read is done.
        if self.complete:
            self.test.assertLessEqual(again[False], units * CHANGES_OF_A_TRANSACTION, "changes behind a state came again")
        self.complete = self.complete or not run.killed
        self.tail = {version for records in waiting.values() for version, _ in records}
        for records in waiting.values():
            times = [record["emitted_at"] for _, record in records]
            self.longest_tail = max(self.longest_tail, len(records))
            self.longest_tail_ms = max(self.longest_tail_ms, max(times) - min(times))

    def state_file(self):
        return [{"type": "STREAM", "stream": s["stream"], "sourceStats": None} for s in self.states.values()]

    def phase(self):
        """Where the next run begins."""
        if not self.states:
            return "nothing"
        cursors = [c for s in self.states.values() for c in cursors_of(s).values()]
        return "copy" if any(not c.position or c.lastpk is not None for c in cursors) else "catch-up"

    def ties(self):
        """Rows whose largest cursor is that of a record which no state covers, although a covered one was told later: what
        comes again after a kill may have smaller cursors than what had come before (docs/state.md, "What holds")."""
        return [
            key
            for key, data in self.everything.items()
            if key in self.confirmed and data["_ab_cdc_cursor"] > self.confirmed[key]["_ab_cdc_cursor"]
        ]

    @staticmethod
    def fold(rows):
        folded = {}
        for (stream, key), data in rows.items():
            if data["_ab_cdc_deleted_at"] is None:
                folded.setdefault(stream, {})[key] = {n: v for n, v in data.items() if not n.startswith("_")}
        return folded


class KillTest(FaultTest):
    maxDiff = None

    def start(self, shards, faults, rows_per_shard=4000):
        """A branch whose copies are slow enough to be killed in their middle. It is written to before and during each
        read, a burst at a time, so that the writes last as long as the kills, however slow the machine is."""
        pace = {"do": "trickle", "phase": "copy", "events": 100, "ms": 100, "repeat": 1_000_000}
        self.shards, self.tables = shards, 2
        self.draw = random.Random(f"{SEED} {self.id()}")
        self.local = self.faulty(
            [pace, *faults], [f"commerce:{shards}"], tables=self.tables, rows=rows_per_shard * shards,
            seed=SEED, write_burst=BURST,
        )
        self.writing = False
        self.conn = self.connector(self.local.config(checkpoint_interval_seconds=1, max_retries=20))
        self.configured = configure(self.conn.catalog)
        self.told = Destination(self)
        self.kills = {"nothing": 0, "copy": 0, "catch-up": 0}
        # Bytes that a run may take before it dies; a run that ends first corrects it.
        self.reach = rows_per_shard * shards * self.tables * 400

    def write(self):
        """Begins to write."""
        self.wait_for_writes()
        self.local.signal(signal.SIGUSR2)
        self.writing = True

    def wait_for_writes(self):
        while self.writing:
            line = self.local.line()
            self.assertTrue(line, "local-branch ended before it had written")
            self.writing = "written" not in json.loads(line)

    def read(self, kill_at=None, kill_after=None, write_at=None):
        """Reads, until so many bytes have come or so many seconds are over. Writes begin when `write_at` bytes have."""
        with tempfile.TemporaryFile() as errors:
            state = self.told.state_file()
            arguments = [CONNECTOR, *self.conn.read_arguments(self.configured, state or None)]
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
            try:
                fd = process.stdout.fileno()
                if kill_at is not None:
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
                output, killed = bytearray(), False
                deadline = time.monotonic() + (LIMIT if kill_after is None else kill_after)
                while True:
                    wanted = 1 << 16 if kill_at is None else kill_at - len(output)
                    ready = wanted > 0 and select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]
                    if not ready and not killed:
                        self.assertTrue(kill_at is not None or kill_after is not None, "the read does not end")
                        process.kill()
                        killed, kill_at = True, None
                        deadline = time.monotonic() + LIMIT
                        continue
                    chunk = os.read(fd, min(max(wanted, 1), 1 << 16))
                    if not chunk:
                        break
                    output += chunk
                    if write_at is not None and len(output) >= write_at:
                        write_at = None
                        self.write()
                code = process.wait(LIMIT)
                errors.seek(0)
                # It may have come to its end in the moment before.
                return Run(bytes(output), code, errors.read().decode(errors="replace"), killed and code == -9)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    def take(self, run, ok):
        if ok or not run.killed:
            self.assertEqual(0, run.code, run.explain())
        self.told.take(run, self.shards * self.tables)
        return run

    def kill(self, count):
        """So many reads die; those that end before are not counted."""
        target = sum(self.kills.values()) + count
        for _ in range(20 * count):
            if sum(self.kills.values()) >= target:
                return
            phase = self.told.phase()
            self.write()
            self.wait_for_writes()
            kind = self.draw.random()
            if kind < 0.1:
                run = self.read(kill_after=self.draw.uniform(0, 0.3))
            elif kind < 0.7 and phase != "catch-up":
                # Long enough for a state or two, too short for the whole copy.
                run = self.read(kill_after=self.draw.uniform(0.5, 2.5), write_at=self.draw.randint(1, 1_000_000))
            elif kind < 0.2:
                run = self.read(kill_at=self.draw.randint(1, 3000))
            else:
                at = self.draw.randint(1, max(3000, self.reach))
                run = self.read(kill_at=at, write_at=self.draw.randint(1, at))
            self.take(run, ok=False)
            self.kills[phase] += run.killed
            if not run.killed:
                self.reach = sum(len(line) for line in run.lines)
        self.fail(f"only {sum(self.kills.values())} reads could be killed")

    def finish(self):
        """Reads what is left and compares."""
        self.wait_for_writes()
        for _ in range(200):
            before = self.told.delivered
            self.take(self.read(), ok=True)
            if self.told.delivered == before:
                break
        truth = sbtest_truth(self.local.stop())
        self.compare(Destination.fold(self.told.confirmed), truth)
        # A destination that keeps what no state covers has every row as well. It may keep rows of a copy of which no
        # state told, and that were deleted before the copy started over (docs/state.md, "What holds").
        everything = Destination.fold(self.told.everything)
        tied = self.told.ties()
        for stream, key in tied:
            everything.setdefault(stream, {}).pop(key, None)
            if key in truth[stream]:
                everything[stream][key] = truth[stream][key]
        for stream, rows in everything.items():
            for key in set(rows) - set(truth[stream]):
                self.assertFalse((stream, key) in self.told.confirmed, self.told.history[(stream, key)])
                del rows[key]
        self.compare(everything, truth)
        faults = self.happened(self.local)
        counted = {kind: faults.count(kind) for kind in sorted(set(faults)) if kind != "trickle"}
        print(
            f"{sum(self.kills.values())} kills survived {self.kills}, faults {counted}: {self.told.delivered} records "
            f"delivered, {self.told.repeated} of them again, at most {self.told.longest_tail} of a table "
            f"({self.told.longest_tail_ms} ms) not covered by a state, {len(tied)} rows with a tie, 0 lost"
        )

    def compare(self, rows, truth):
        wrong = difference(rows, truth)
        for stream in truth:
            keys = [k for k in set(truth[stream]) | set(rows.get(stream, ())) if rows.get(stream, {}).get(k) != truth[stream].get(k)]
            for key in sorted(keys)[:3]:
                wrong += f"\n{stream} {key} as told (run, k, cursor, time): {self.told.history.get((stream, key))}"
        self.assertEqual("", wrong)

    def run(self, result=None):
        bad = len(result.failures) + len(result.errors) if result else 0
        super().run(result)
        if result and len(result.failures) + len(result.errors) > bad:
            print(f"again: PSOURCE_KILL_SEED={SEED} PSOURCE_KILLS={KILLS} python -m unittest {self.id()}")


class Kills(KillTest):
    BREAKS = [
        {"do": "reset", "phase": "copy", "rows": 2000, "repeat": 6},
        {"do": "status", "phase": "binlog", "rows": 100, "repeat": 6},
        {"do": "half_transaction", "phase": "binlog", "rows": 40, "repeat": 6},
        {"do": "duplicate_begin", "phase": "binlog", "repeat": 6},
        {"do": "failover", "after_ms": 4000, "repeat": 3},
    ]

    def survive(self, shards):
        self.start(shards, self.BREAKS)
        self.kill(KILLS // 6)
        self.finish()

    def test_1_shard(self):
        self.survive(1)

    def test_2_shards(self):
        self.survive(2)

    def test_4_shards(self):
        self.survive(4)

    def test_8_shards(self):
        self.survive(8)

    def test_16_shards(self):
        self.survive(16)


class KillsAndReshards(KillTest):
    def test_killed_around_a_split_and_a_merge(self):
        faults = [
            {"do": "reshard", "from": ["-80"], "to": ["-40", "40-80"], "on_signal": True},
            {"do": "reshard", "from": ["-40", "40-80", "80-"], "to": ["-"], "on_signal": True},
        ]
        self.start(2, faults)
        self.take(self.read(), ok=True)
        for part in range(3):
            self.kill((KILLS - 5 * (KILLS // 6)) // 3 + 1)
            if part < 2:
                self.wait_for_writes()
                self.set_off(self.local, "reshard")
        self.finish()
        self.assertEqual({"-"}, {shard for state in self.told.states.values() for shard in cursors_of(state)})


if __name__ == "__main__":
    unittest.main()
