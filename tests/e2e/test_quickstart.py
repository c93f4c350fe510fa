"""scripts/quickstart.sh as a new user runs it, on the programs that are built already."""
import os
import subprocess
import unittest

from tests.e2e.harness import BIN, ROOT


class Quickstart(unittest.TestCase):
    def test_runs_to_its_end_and_shows_every_step(self):
        done = subprocess.run(
            [ROOT / "scripts" / "quickstart.sh", "--no-setup", "--no-build"],
            env={**os.environ, "PSOURCE_BIN_DIR": str(BIN)},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        for text in ("spec", "check", "SUCCEEDED", "discover", "sbtest1", "sbtest2", "RECORD", "STATE", "COMPLETE", "4 shards"):
            self.assertIn(text, done.stdout)
        self.assertEqual("", done.stderr)

    def test_unknown_arguments_are_refused(self):
        done = subprocess.run(
            [ROOT / "scripts" / "quickstart.sh", "--nonsense"], capture_output=True, text=True, timeout=60
        )
        self.assertEqual(2, done.returncode)


if __name__ == "__main__":
    unittest.main()
