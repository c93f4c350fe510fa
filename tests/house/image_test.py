#!/usr/bin/env python3
"""The image installs the shared libraries that the built program needs, and no others.

Usage: image_test.py DOCKERFILE PROGRAM
"""
import pathlib
import re
import subprocess
import sys
import unittest

from hardened_test import readelf

DOCKERFILE = ""
PROGRAM = ""

# In every Debian image.
ALWAYS_THERE = {"libc6", "libgcc-s1"}


def package_of(library):
    """The Debian package of a file. Packages name it by where it was before /lib became a link, or after."""
    real = str(pathlib.Path(library).resolve())
    for path in (real, real.removeprefix("/usr"), library):
        found = subprocess.run(["dpkg-query", "--search", path], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.split(":")[0]
    raise AssertionError(f"no package has {library}")


class Image(unittest.TestCase):
    def test_libraries_of_the_program_are_installed(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic", PROGRAM))
        self.assertGreater(len(needed), 5)
        loaded = subprocess.run(["ldd", PROGRAM], check=True, capture_output=True, text=True).stdout
        places = dict(re.findall(r"^\s*(\S+) => (/\S+)", loaded, re.MULTILINE))
        packages = {package_of(places[name]) for name in needed if name in places} - ALWAYS_THERE
        last_stage = pathlib.Path(DOCKERFILE).read_text(encoding="utf-8").rpartition("\nFROM ")[2]
        installed = re.search(r"--no-install-recommends \\\n(.*?)\\\n", last_stage, re.DOTALL).group(1).split()
        libraries = {name for name in installed if name.startswith("lib") or name == "zlib1g"}
        self.assertEqual(libraries, packages)


if __name__ == "__main__":
    DOCKERFILE, PROGRAM = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
