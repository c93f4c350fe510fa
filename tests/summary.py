#!/usr/bin/env python3
"""Adds up ctest's JUnit files: counts the cases inside each doctest and unittest program, not the programs, and the lines
that the end-to-end tests held against Airbyte's models and the catalogs."""
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

DOCTEST = re.compile(r"\[doctest\] test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
UNITTEST_BAD = re.compile(r"^FAILED \((.*)\)$", re.MULTILINE)
CHECKED = re.compile(r"^checked: (.+)$", re.MULTILINE)
UNITTEST_SKIPPED = re.compile(r"^(?:OK|FAILED) \(.*?skipped=(\d+)", re.MULTILINE)


def count(case):
    """(passed, failed) of one ctest entry."""
    output = case.findtext("system-out") or ""
    ok = case.get("status") == "run"
    passed = failed = 0
    for match in DOCTEST.finditer(re.sub(r"\x1b\[[0-9;]*m", "", output)):
        passed += int(match.group(2))
        failed += int(match.group(3))
    for match in UNITTEST_RAN.finditer(output):
        bad = sum(
            int(number)
            for line in UNITTEST_BAD.findall(output)
            for number in re.findall(r"(?:failures|errors)=(\d+)", line)
        )
        skipped = sum(int(number) for number in UNITTEST_SKIPPED.findall(output))
        passed += max(0, int(match.group(1)) - bad - skipped)
        failed += bad
    # A crash or a time-out has no summary of its own, or one that says nothing of it.
    if not ok and failed == 0:
        failed = 1
    if ok and passed + failed == 0:
        passed = 1
    return passed, failed


def checked(case, sums):
    """Adds what a module of end-to-end tests says that it checked (tests/e2e/rules.py)."""
    for line in CHECKED.findall(case.findtext("system-out") or ""):
        for part in line.split(", "):
            number, what = part.split(" ", 1)
            sums[what] = sums.get(what, 0) + int(number)


def main(files):
    passed = failed = 0
    sums = {}
    for file in files:
        before = passed, failed
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            p, f = count(case)
            checked(case, sums)
            passed += p
            failed += f
            if f:
                print(f"failed: {case.get('name')} ({f} of {p + f})")
        print(f"{pathlib.Path(file).stem}: {passed - before[0]} passed, {failed - before[1]} failed")
    if sums:
        print("End to end, checked: " + ", ".join(f"{number:,} {what}" for what, number in sums.items()))
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
