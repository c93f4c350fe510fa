#!/usr/bin/env python3
"""Adds up ctest's JUnit files: counts the cases inside each doctest and unittest program, not the programs, and the lines
that the end-to-end tests held against Airbyte's models and the catalogs. Tests that were skipped are told by name, because
the sum has neither passed nor failed ones of them."""
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

DOCTEST = re.compile(r"\[doctest\] test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
UNITTEST_BAD = re.compile(r"^FAILED \((.*)\)$", re.MULTILINE)
CHECKED = re.compile(r"^checked: (.+)$", re.MULTILINE)
UNITTEST_SKIPPED = re.compile(r"^(?:OK|FAILED) \(.*?skipped=(\d+)", re.MULTILINE)
# With -v: "test_x (module.Class.test_x) ... skipped 'why'"; the first line of a docstring stands on a line of its own.
NAMED_SKIPPED = re.compile(r"""^(\w+) \(\S+\)(?:\n[^\n]*)? \.\.\. skipped (['"])(.*)\2$""", re.MULTILINE)


def skipped_tests(case):
    """What unittest says that it skipped in one ctest entry, one text for each test."""
    output = case.findtext("system-out") or ""
    named = [f"{name} ({why})" for name, _, why in NAMED_SKIPPED.findall(output)]
    count = sum(int(number) for number in UNITTEST_SKIPPED.findall(output))
    return named + [f"a test of {case.get('name')}"] * (count - len(named))


def count(case, skipped):
    """(passed, failed) of one ctest entry, in which so many tests were skipped."""
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
        passed += max(0, int(match.group(1)) - bad - skipped)
        failed += bad
    # A crash or a time-out has no summary of its own, or one that says nothing of it.
    if not ok and failed == 0:
        failed = 1
    if ok and passed + failed + skipped == 0:
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
    skipped = []
    sums = {}
    for file in files:
        before = passed, failed
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            left_out = skipped_tests(case)
            skipped += [f"{pathlib.Path(file).stem} {what}" for what in left_out]
            p, f = count(case, len(left_out))
            checked(case, sums)
            passed += p
            failed += f
            if f:
                print(f"failed: {case.get('name')} ({f} of {p + f})")
        print(f"{pathlib.Path(file).stem}: {passed - before[0]} passed, {failed - before[1]} failed")
    if sums:
        print("End to end, checked: " + ", ".join(f"{number:,} {what}" for what, number in sums.items()))
    if skipped:
        print(f"{len(skipped)} skipped: {', '.join(skipped)}")
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
