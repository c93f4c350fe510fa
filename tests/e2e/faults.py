"""A local branch with faults, for tests."""
import json
import pathlib
import signal
import tempfile
import time

from tests.e2e.harness import BranchTest, configure


# Row changes that are written when a fault is armed: on each of two shards more than one response holds.
BURST = 4000


def warnings(transcripts):
    """What was told of attempts that follow."""
    return [log for t in transcripts for log in t.logs if log.startswith("WARN") and "Trying again" in log]


class FaultTest(BranchTest):
    """A branch with a file of faults. After its first line it writes one for each fault that has begun."""

    def faulty(self, faults, *arguments, **options):
        folder = tempfile.TemporaryDirectory(prefix="psource-faults-")
        self.addCleanup(folder.cleanup)
        file = pathlib.Path(folder.name) / "faults.jsonl"
        file.write_text("".join(json.dumps(fault) + "\n" for fault in faults), encoding="utf-8")
        faults = [*options.pop("options", []), "--faults", file]
        return self.branch(*arguments, options=faults, **{"write_burst": BURST, **options})

    def arm(self, branch, kind):
        """Lets the next fault that waits for a signal begin, and writes: the reads so far may have brought everything,
        and a stream without rows meets no fault."""
        self.let_begin(branch, kind)
        branch.burst()

    def let_begin(self, branch, kind):
        """The same without writing."""
        branch.signal(signal.SIGUSR1)
        self.wait_for(branch, "signal", kind)

    def set_off(self, branch, kind):
        """Sets off the next fault that waits for a signal alone, and waits until it has happened."""
        branch.signal(signal.SIGUSR1)
        self.wait_for(branch, "fault", kind)

    def wait_for(self, branch, word, kind):
        while True:
            line = branch.line()
            self.assertTrue(line, f"local-branch ended without {word} {kind}")
            told = json.loads(line)
            self.assertNotIn("missed", told, "there was nothing that it could happen to")
            if told.get(word) == kind:
                return

    def happened(self, branch):
        """The faults that a branch had; it has been stopped."""
        while branch.line():
            pass
        lines = [json.loads(line) for line in bytes(branch.read).splitlines()]
        return [line["fault"] for line in lines if "fault" in line]

    def read_to_the_truth(self, branch, between=None, **config):
        """Reads until the branch is quiet; everything that was delivered equals its rows. All transcripts. `between` is
        called after the first read."""
        connector = self.connector(branch.config(**config))
        configured = configure(connector.catalog)
        transcripts = [connector.read(configured)]
        if between:
            between()
        self.read_until_quiet(connector, configured, transcripts[0].state_file(), transcripts)
        self.assert_truth(transcripts, branch)
        return transcripts

    def failed_read(self, connector, configured, state=None, limit=60):
        started = time.monotonic()
        transcript = connector.read(configured, state, ok=False, limit=limit)
        self.assertEqual(1, transcript.code, transcript.explain())
        self.assertTrue(transcript.errors, transcript.explain())
        return transcript, time.monotonic() - started
