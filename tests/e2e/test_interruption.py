"""Reads that are killed, stopped or left alone: what was printed is whole, and what follows continues without loss."""
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import (
    CONNECTOR,
    LIMIT,
    BranchTest,
    Process,
    SilentServer,
    Transcript,
    configure,
    cursors_of,
    difference,
    fold,
    record_stream,
    sbtest_truth,
)

# One copied response of vtgate holds at most about this many rows; a state may stand one of them behind.
ROWS_OF_A_RESPONSE = 1500


def read_records(process, count):
    """Takes lines until `count` records have come; False when the output ended before."""
    while count > 0:
        line = process.line()
        if not line:
            return False
        count -= b'"type":"RECORD"' in line
    return True


class Signals(BranchTest):
    # More than the program, its queue and the pipe can hold together, so a read that is not drained is still copying.
    ROWS = 60_000

    def interrupt(self, number, **config):
        branch = self.branch(["commerce:2"], tables=2, rows=self.ROWS // 2)
        connector = self.connector(branch.config(**config))
        configured = configure(connector.catalog)
        with connector.start_read(configured) as process:
            self.assertTrue(read_records(process, 3000))
            process.signal(number)
            transcript = process.transcript()
        self.assertEqual(-number, transcript.code, transcript.explain())
        return branch, connector, configured, transcript

    def check_last_words(self, transcript):
        """Whole lines, exact counts, a last state per stream after its last record, INCOMPLETE at the end."""
        since_state = {}
        for message in transcript.messages:
            if message["type"] == "RECORD":
                stream = record_stream(message["record"])
                since_state[stream] = since_state.get(stream, 0) + 1
            elif message["type"] == "STATE":
                descriptor = message["state"]["stream"]["stream_descriptor"]
                stream = (descriptor["namespace"], descriptor["name"])
                self.assertEqual(since_state.get(stream, 0), message["state"]["sourceStats"]["recordCount"])
                since_state[stream] = 0
        self.assertEqual(set(), {s for s, n in since_state.items() if n}, transcript.explain())
        last = {}
        for stream, status in transcript.statuses:
            last[stream] = status
        self.assertEqual({"INCOMPLETE"}, set(last.values()), transcript.explain())
        self.assertEqual(2, len(last))

    def test_sigterm_in_the_middle_of_a_copy_resumes_without_loss(self):
        branch, connector, configured, killed = self.interrupt(signal.SIGTERM)
        self.check_last_words(killed)
        self.assertLess(len(killed.records), self.ROWS, "the copy was over before the signal")
        half = [c for s in killed.state_file() for c in cursors_of(s).values() if c.lastpk is not None]
        self.assertTrue(half, "no shard was in the middle of its copy")
        resumed = connector.read(configured, killed.state_file())
        self.assertEqual("", difference(fold([killed, resumed]), sbtest_truth(branch.stop())))
        again = len(killed.records) + len(resumed.records) - self.ROWS
        self.assertLessEqual(again, 4 * ROWS_OF_A_RESPONSE, "more was read again than one response per shard and table")

    def test_sigint_ends_by_the_signal_too(self):
        branch, connector, configured, killed = self.interrupt(signal.SIGINT)
        self.check_last_words(killed)
        resumed = connector.read(configured, killed.state_file())
        self.assertEqual("", difference(fold([killed, resumed]), sbtest_truth(branch.stop())))

    def test_a_second_signal_ends_at_once_although_nobody_reads(self):
        branch = self.branch(["commerce:2"], tables=2, rows=self.ROWS // 2)
        connector = self.connector(branch.config())
        with connector.start_read() as process:
            self.assertTrue(read_records(process, 1000))
            process.signal(signal.SIGTERM)
            # Nobody reads the pipe now: the last lines cannot be written.
            process.signal(signal.SIGINT)
            process.signal(signal.SIGINT)
            self.assertIn(process.wait(15), (-signal.SIGTERM, -signal.SIGINT))
            process.transcript(cut=True)

    def test_sigterm_ends_although_nobody_reads(self):
        """The watchdog: a pipe that is full for good does not keep the program."""
        branch = self.branch(["commerce:2"], tables=2, rows=self.ROWS // 2)
        connector = self.connector(branch.config())
        with connector.start_read() as process:
            self.assertTrue(read_records(process, 10_000))
            process.signal(signal.SIGTERM)
            self.assertEqual(-signal.SIGTERM, process.wait(20))
            process.transcript(cut=True)

    def test_commands_without_a_read_die_of_sigterm(self):
        """PyAirbyte ends spec, check and discover by SIGTERM and expects -15."""
        silent = SilentServer()
        self.addCleanup(silent.close)
        branch = self.branch(rows=1)
        for command in ("check", "discover"):
            connector = self.connector(branch.config(mysql_port=silent.port))
            with self.subTest(command=command), connector.start(command, "--config", connector.config) as process:
                silent.next_connection()
                process.signal(signal.SIGTERM)
                self.assertEqual(-signal.SIGTERM, process.wait(15))


class Kills(BranchTest):
    def test_killed_at_random_records_and_resumed_nothing_is_lost(self):
        """Invariant (e): SIGKILL at any byte, again and again, while the branch is written to."""
        draw = random.Random(20)
        branch = self.branch(["commerce:2"], tables=6, rows=4000, write_rate=3000, write_total=12000)
        connector = self.connector(branch.config(checkpoint_interval_seconds=1, max_streams=2))
        configured = configure(connector.catalog)
        transcripts = []
        state = ()
        killed = 0
        for _ in range(7):
            with connector.start_read(configured, list(state) or None) as process:
                if read_records(process, draw.randint(1, 9000)):
                    process.process.kill()
                    killed += 1
                transcript = process.transcript(cut=True)
            # A cut last line is dropped by the platform as well.
            transcripts.append(transcript)
            state = transcript.state_file(state)
        self.assertGreaterEqual(killed, 4)
        self.read_until_quiet(connector, configured, list(state) or None, transcripts)
        truth = sbtest_truth(branch.stop())
        # What the platform keeps of failed attempts for certain is what a state confirms.
        self.assertEqual("", difference(fold(transcripts, only_confirmed=True), truth))
        # A destination that kept more has every row with its right value. It may also have rows that were delivered by
        # a copy of which no state told, and deleted before that copy started over.
        everything = fold(transcripts)
        confirmed = {(record_stream(r), r["data"]["id"]) for t in transcripts for r in t.confirmed}
        for stream, rows in everything.items():
            for key in set(rows) - set(truth[stream]):
                self.assertNotIn((stream, key), confirmed)
                del rows[key]
        self.assertEqual("", difference(everything, truth))

    def test_killed_while_catching_up_repeats_nothing_but_the_last_interval(self):
        """P10: rows written to a range that is already copied are not missed."""
        branch = self.branch(["commerce:1"], tables=1, rows=30_000, write_rate=6000, write_total=9000)
        connector = self.connector(branch.config(checkpoint_interval_seconds=1))
        configured = configure(connector.catalog)
        with connector.start_read(configured) as process:
            self.assertTrue(read_records(process, 5000))
            process.signal(signal.SIGTERM)
            killed = process.transcript()
        transcripts = [killed]
        self.read_until_quiet(connector, configured, killed.state_file(), transcripts)
        self.assert_truth(transcripts, branch)


class ClosedOutput(BranchTest):
    def test_nobody_reads_any_more(self):
        """EPIPE ends it quietly and not with success."""
        branch = self.branch(["commerce:2"], tables=2, rows=20_000)
        connector = self.connector(branch.config())
        with connector.start_read() as process:
            self.assertTrue(read_records(process, 500))
            process.process.stdout.close()
            code = process.wait(30)
            said = process.stderr().decode()
        self.assertTrue(code > 0 or code == -signal.SIGPIPE, code)
        self.assertEqual("", said)

    def test_nobody_reads_from_the_start(self):
        branch = self.branch(rows=10)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        for command in (["spec"], ["check"], ["discover"], ["read"]):
            arguments = connector.read_arguments(configured)[1:3] if command != ["spec"] else []
            if command == ["read"]:
                arguments = connector.read_arguments(configured)[1:]
            reading, writing = os.pipe()
            os.close(reading)
            try:
                with connector.start(*command, *arguments, stdout=writing) as process:
                    code = process.wait(30)
            finally:
                os.close(writing)
            with self.subTest(command=command):
                self.assertTrue(code > 0 or code == -signal.SIGPIPE, code)

    def test_a_full_disk_is_told_on_standard_error(self):
        branch = self.branch(rows=5000)
        connector = self.connector(branch.config())
        with open("/dev/full", "wb") as full:
            with connector.start(*connector.read_arguments(), stdout=full) as process:
                self.assertGreater(process.wait(LIMIT), 0)
                self.assertNotEqual("", process.stderr().decode())


class Phases(FaultTest):
    """Before the first record nothing is owed: a signal ends the program at once, with whole lines."""

    def phases(self):
        """(name, command, configuration, what waits for the moment)"""
        silent = SilentServer()
        self.addCleanup(silent.close)
        branch = self.branch(["commerce:2"], rows=10)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        for command in ("check", "discover", "read"):
            yield f"{command} connects", command, branch.config(mysql_port=silent.port), configured, silent
        for command in ("check", "read"):
            yield f"{command} peeks", command, branch.config(port=silent.port), configured, silent

    def test_a_signal_while_nothing_is_read_yet(self):
        for name, command, config, configured, silent in self.phases():
            for numbers in ((signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)):
                with self.subTest(phase=name, signals=numbers):
                    connector = self.connector(config)
                    arguments = ["--config", connector.config]
                    if command == "read":
                        arguments += ["--catalog", connector.file(configured)]
                    with connector.start(command, *arguments) as process:
                        silent.next_connection()
                        for number in numbers:
                            process.signal(number)
                        # Two that come at once may be taken in any order.
                        self.assertIn(process.wait(5), [-number for number in numbers])
                        self.assertEqual([], process.transcript().errors)

    def test_a_signal_between_the_last_state_and_the_exit(self):
        """Whenever it comes: what was said stays true, and the exit is the read's own or that of the signal."""
        branch = self.branch(["commerce:2"], rows=10)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        codes = set()
        for numbers in ((signal.SIGTERM,), (signal.SIGTERM, signal.SIGINT)):
            for last in (b'"type":"STATE"', b'"status":"COMPLETE"'):
                for _ in range(5):
                    with self.subTest(signals=numbers, after=last), connector.start_read(configured) as process:
                        records = 0
                        while records < 10 or last not in line:
                            line = process.line()
                            self.assertTrue(line, "the read ended before")
                            records += b'"type":"RECORD"' in line
                        for number in numbers:
                            process.signal(number)
                        transcript = process.transcript(15)
                        codes.add(transcript.code)
                        self.assertIn(transcript.code, (0, *(-number for number in numbers)), transcript.explain())
                        self.assertEqual([], transcript.errors)
                        self.assertEqual(10, len(transcript.confirmed), transcript.explain())
                        status = dict(transcript.statuses)[("commerce", "sbtest1")]
                        if transcript.code == 0 or last == b'"status":"COMPLETE"':
                            self.assertEqual("COMPLETE", status)
                        self.assertEqual([], connector.read(configured, transcript.state_file()).records)
        self.assertTrue(codes - {0}, "no signal came in time")

    def test_a_signal_while_a_stream_catches_up(self):
        branch = self.branch(["commerce:2"], rows=100, write_burst=60_000)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        first = connector.read(configured)
        branch.burst()
        with connector.start_read(configured, first.state_file()) as process:
            self.assertTrue(read_records(process, 2000))
            process.signal(signal.SIGTERM)
            stopped = process.transcript()
        self.assertEqual(-signal.SIGTERM, stopped.code, stopped.explain())
        self.assertEqual("INCOMPLETE", dict(stopped.statuses)[("commerce", "sbtest1")])
        self.assertEqual(len(stopped.records), len(stopped.confirmed))
        transcripts = [first, stopped]
        self.read_until_quiet(connector, configured, stopped.state_file(), transcripts)
        self.assert_truth(transcripts, branch)

    def test_a_signal_while_a_stream_waits_for_its_next_attempt(self):
        """Nothing is under way then: the last states come at once, not after the pause."""
        faults = [{"do": "status", "phase": "copy", "rows": 1500, "repeat": 1000}]
        branch = self.faulty(faults, ["commerce:1"], rows=6000)
        connector = self.connector(branch.config(max_retries=1000))
        with connector.start_read() as process:
            process.wait_for_line(b"Trying again")
            process.signal(signal.SIGTERM)
            stopped = process.transcript(15)
        self.assertEqual(-signal.SIGTERM, stopped.code, stopped.explain())
        self.assertEqual("INCOMPLETE", dict(stopped.statuses)[("commerce", "sbtest1")])
        self.assertTrue(stopped.states)

    def test_a_signal_while_a_server_is_silent(self):
        branch = self.faulty([{"do": "stall", "phase": "copy", "rows": 1500, "repeat": 1000}], ["commerce:1"], rows=6000)
        connector = self.connector(branch.config())
        with connector.start_read() as process:
            self.wait_for(branch, "fault", "stall")
            process.signal(signal.SIGTERM)
            stopped = process.transcript(15)
        self.assertEqual(-signal.SIGTERM, stopped.code, stopped.explain())
        self.assertEqual("INCOMPLETE", dict(stopped.statuses)[("commerce", "sbtest1")])


class FirstProcess(BranchTest):
    """As PID 1 of a container, where the kernel ignores what has no handler."""

    def setUp(self):
        self.unshare = ["unshare", "--pid", "--fork", "--kill-child"]
        if os.geteuid() != 0:
            self.unshare[1:1] = ["--user", "--map-root-user"]
        if subprocess.run([*self.unshare, "true"], capture_output=True).returncode != 0:
            self.skipTest("this system lets nobody make a PID namespace")

    def start(self, connector, command, *arguments):
        process = Process([*self.unshare, CONNECTOR, command, *arguments])
        self.addCleanup(process.close)
        return process

    def init_of(self, process):
        """The program's own process id out here."""
        pid = process.process.pid
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if children and os.readlink(f"/proc/{children[0]}/exe") == str(CONNECTOR):
                return int(children[0])
        self.fail("the program did not start")

    def test_check_and_discover(self):
        silent = SilentServer()
        self.addCleanup(silent.close)
        branch = self.branch(rows=1)
        for command in ("check", "discover"):
            for number in (signal.SIGTERM, signal.SIGINT):
                connector = self.connector(branch.config(mysql_port=silent.port))
                with self.subTest(command=command, signal=number):
                    process = self.start(connector, command, "--config", connector.config)
                    silent.next_connection()
                    os.kill(self.init_of(process), number)
                    self.assertEqual(128 + number, process.wait(15))

    def test_read_before_its_first_record(self):
        silent = SilentServer()
        self.addCleanup(silent.close)
        branch = self.branch(rows=1)
        configured = configure(self.connector(branch.config()).catalog)
        connector = self.connector(branch.config(port=silent.port))
        process = self.start(connector, *connector.read_arguments(configured))
        silent.next_connection()
        os.kill(self.init_of(process), signal.SIGTERM)
        self.assertEqual(128 + signal.SIGTERM, process.wait(15))

    def copying(self):
        branch = self.branch(["commerce:2"], tables=2, rows=Signals.ROWS // 2)
        connector = self.connector(branch.config())
        process = self.start(connector, *connector.read_arguments())
        self.assertTrue(read_records(process, 3000))
        return process

    def test_read_in_the_middle_of_a_copy(self):
        process = self.copying()
        os.kill(self.init_of(process), signal.SIGTERM)
        stopped = process.transcript()
        self.assertEqual(128 + signal.SIGTERM, stopped.code, stopped.explain())
        self.assertEqual({"INCOMPLETE"}, set(dict(stopped.statuses).values()))
        self.assertEqual(len(stopped.records), len(stopped.confirmed))

    def test_twice_although_nobody_reads(self):
        process = self.copying()
        init = self.init_of(process)
        os.kill(init, signal.SIGTERM)
        os.kill(init, signal.SIGINT)
        self.assertIn(process.wait(8), (128 + signal.SIGTERM, 128 + signal.SIGINT))

    def test_the_watchdog(self):
        process = self.copying()
        os.kill(self.init_of(process), signal.SIGTERM)
        self.assertEqual(128 + signal.SIGTERM, process.wait(30))
        Transcript(process.rest(), process.process.returncode, cut=True)


class FullDisk(BranchTest):
    """Standard output is a file that cannot grow: an error, and the file ends behind a whole line."""

    def reading(self, arguments, redirect):
        """The exit status, what is in the file, and what is on standard error."""
        with tempfile.TemporaryDirectory(prefix="psource-disk-") as folder:
            disk = pathlib.Path(folder)
            done = subprocess.run(redirect(disk, [str(a) for a in arguments]), capture_output=True, timeout=LIMIT)
            file = disk / "out"
            return done.returncode, file.read_bytes() if file.exists() else done.stdout, done.stderr.decode()

    def check(self, redirect):
        branch = self.branch(["commerce:2"], rows=6000)
        connector = self.connector(branch.config())
        configured = configure(connector.catalog)
        code, output, said = self.reading([CONNECTOR, *connector.read_arguments(configured)], redirect)
        self.assertEqual(1, code)
        self.assertIn("Standard output cannot be written", said)
        cut = Transcript(output, code)
        self.assertTrue(cut.records)
        self.assertLess(len(cut.records), 6000)
        again = connector.read(configured, cut.state_file() or None)
        self.assertEqual("", difference(fold([cut, again]), sbtest_truth(branch.stop())))

    def test_a_disk_that_is_full(self):
        """A file system of 600 KB."""
        unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]

        def redirect(disk, arguments):
            script = 'disk=$1; shift; mount -t tmpfs -o size=600k none "$disk" || exit 99; "$@" > "$disk/out"; code=$?; cat "$disk/out"; exit $code'
            return [*unshare, "sh", "-c", script, "sh", str(disk), *arguments]

        with tempfile.TemporaryDirectory() as folder:
            probe = subprocess.run(redirect(folder, ["true"]), capture_output=True)
        if probe.returncode != 0:
            self.skipTest("this system lets nobody mount a file system")
        self.check(redirect)

    def test_a_file_that_may_not_grow(self):
        def redirect(disk, arguments):
            return ["sh", "-c", 'out=$1; shift; ulimit -f 600; exec "$@" > "$out"', "sh", str(disk / "out"), *arguments]

        self.check(redirect)

    def test_a_catalog_that_does_not_fit(self):
        branch = self.branch(tables=40, rows=1)
        connector = self.connector(branch.config())

        def redirect(disk, arguments):
            return ["sh", "-c", 'out=$1; shift; ulimit -f 4; exec "$@" > "$out"', "sh", str(disk / "out"), *arguments]

        code, output, said = self.reading([CONNECTOR, "discover", "--config", connector.config], redirect)
        self.assertEqual(1, code)
        self.assertEqual(b"", output)
        self.assertIn("Standard output cannot be written", said)

    def test_messages_and_help_on_a_full_disk(self):
        for arguments in (["spec"], ["read", "--config", "nowhere.json"], ["--help"]):
            with self.subTest(arguments=arguments), open("/dev/full", "wb") as full:
                done = subprocess.run([CONNECTOR, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=LIMIT)
                self.assertEqual(1, done.returncode)
                self.assertIn(b"Standard output cannot be written", done.stderr)


class StandardFiles(BranchTest):
    """Standard files that are shared, or closed."""

    def test_output_and_errors_in_one_file_that_is_appended_to(self):
        branch = self.branch(["commerce:2"], rows=2000)
        connector = self.connector(branch.config())
        arguments = [CONNECTOR, *connector.read_arguments(configure(connector.catalog))]
        with tempfile.TemporaryDirectory() as folder:
            for mode in ("ab", "wb"):
                file = pathlib.Path(folder) / "out"
                file.write_bytes(b"an earlier line\n" if mode == "ab" else b"")
                with self.subTest(mode=mode), open(file, mode) as out:
                    done = subprocess.run(arguments, stdout=out, stderr=subprocess.STDOUT, timeout=LIMIT)
                    self.assertEqual(0, done.returncode)
                    lines = file.read_bytes()
                    if mode == "ab":
                        self.assertTrue(lines.startswith(b"an earlier line\n"))
                        lines = lines[len(b"an earlier line\n"):]
                    self.assertEqual(2000, len(Transcript(lines, 0).records))

    def test_closed_files_are_nobody_elses(self):
        """What is opened next would otherwise be standard output: a connection to the database got Airbyte's messages."""
        branch = self.branch(["commerce:2"], rows=200)
        connector = self.connector(branch.config())
        commands = {
            "check": ["check", "--config", connector.config],
            "discover": ["discover", "--config", connector.config],
            "read": connector.read_arguments(configure(connector.catalog)),
            "read, quiet": connector.read_arguments(configure(connector.catalog), options=["--log-level", "error"]),
        }
        for closed, written in ((">&-", False), ("2>&-", True), ("<&-", True), (">&- 2>&- <&-", False)):
            for name, arguments in commands.items():
                with self.subTest(command=name, closed=closed):
                    script = ["sh", "-c", f'exec "$@" {closed}', "sh", *map(str, [CONNECTOR, *arguments])]
                    done = subprocess.run(script, capture_output=True, timeout=LIMIT)
                    self.assertEqual(0 if written else 1, done.returncode, done.stderr)
                    self.assertNotIn(b'"type"', done.stderr)
                    if written:
                        Transcript(done.stdout, 0)


if __name__ == "__main__":
    unittest.main()
