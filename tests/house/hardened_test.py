#!/usr/bin/env python3
"""The built programs are hardened: what the compiler and the linker were told is in the files.

Usage: hardened_test.py PROGRAM...
"""
import re
import subprocess
import sys
import unittest

PROGRAMS = []


def readelf(option, program):
    return subprocess.run(["readelf", "-W", option, program], check=True, capture_output=True, text=True).stdout


class Hardened(unittest.TestCase):
    def each(self, check):
        self.assertTrue(PROGRAMS)
        for program in PROGRAMS:
            with self.subTest(program=program):
                check(program)

    def test_position_independent(self):
        def check(program):
            self.assertRegex(readelf("--file-header", program), r"Type: +DYN ")
            self.assertRegex(readelf("--dynamic", program), r"\(FLAGS_1\).*\bPIE\b")

        self.each(check)

    def test_relocations_are_read_only_from_the_start(self):
        def check(program):
            self.assertIn("GNU_RELRO", readelf("--program-headers", program))
            self.assertRegex(readelf("--dynamic", program), r"\(FLAGS\).*\bBIND_NOW\b")

        self.each(check)

    def test_no_segment_is_both_writable_and_executable(self):
        def check(program):
            headers = readelf("--program-headers", program)
            self.assertRegex(headers, r"GNU_STACK .* RW +0x")
            self.assertEqual([], re.findall(r"^ +(?:LOAD|GNU_STACK) .* (?:RWE|RW E) .*$", headers, re.MULTILINE))

        self.each(check)

    def test_stack_protector_and_fortified_calls(self):
        def check(program):
            needed = set(re.findall(r" UND (__\w+_chk|__stack_chk_fail)\b", readelf("--dyn-syms", program)))
            self.assertIn("__stack_chk_fail", needed)
            self.assertTrue(needed & {"__memcpy_chk", "__snprintf_chk", "__fprintf_chk"}, needed)

        self.each(check)

    def test_no_search_path_for_libraries(self):
        self.each(lambda program: self.assertNotRegex(readelf("--dynamic", program), r"\((RPATH|RUNPATH)\)"))


if __name__ == "__main__":
    PROGRAMS = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
