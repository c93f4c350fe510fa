#!/usr/bin/env python3
"""What has to agree across files: image, metadata and version; documents and code; the layering of includes.

Usage: house_test.py ROOT CONFIG_REFERENCE_PROGRAM TYPES_PROGRAM
"""
import os
import pathlib
import re
import subprocess
import sys
import unittest
import urllib.parse

ROOT = pathlib.Path()
PRINT_CONFIG_REFERENCE = ""
PRINT_TYPES = ""

SOURCE_FOLDERS = ("proto", "protocol", "clients", "sync", "actors", "cli", "local_branch", "tests", "bench", "fuzz")
# What only the layers below may use; the last column names those folders.
RESTRICTED = (
    ("CAF", re.compile(r'[<"]caf/'), ("actors", "tests", "bench")),
    ("gRPC", re.compile(r'[<"](grpc|grpcpp)/|\.grpc\.pb\.h'), ("clients", "local_branch", "tests", "bench")),
    ("libmysqlclient", re.compile(r'[<"](mysql|errmsg|mysqld_error)(/|\.h)'), ("clients", "tests", "bench")),
    ("OpenSSL", re.compile(r'[<"]openssl/'), ("clients", "local_branch", "tests", "bench")),
)
INPUT_OUTPUT = re.compile(
    r"<(fstream|iostream|filesystem|thread|unistd\.h|fcntl\.h|poll\.h|netdb\.h|sys/(socket|stat|uio|mman|select|epoll)\.h)>"
)
# A purer layer must not know those above it. clients/vstream.hpp and clients/connection.hpp are plain values and
# interfaces: the seam that the layers share.
SEAM = {"clients/vstream.hpp", "clients/connection.hpp"}
MAY_INCLUDE = {
    "protocol": {"protocol"},
    "sync": {"protocol", "sync"},
    "clients": {"protocol", "sync", "clients"},
    "actors": {"protocol", "sync", "actors"},
    "cli": {"protocol", "sync", "clients", "actors", "cli"},
}


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


def is_ours(path):
    """Not a build folder, an environment, or anything else that version control does not keep."""
    parts = path.relative_to(ROOT).parts
    return not parts[0].startswith("build") and not {".git", ".venv", "__pycache__"} & set(parts)


def all_files():
    for path in sorted(ROOT.iterdir()):
        if not is_ours(path):
            continue
        if path.is_file():
            yield path
        else:
            yield from (inner for inner in sorted(path.rglob("*")) if inner.is_file() and is_ours(inner))


def sources(folders, endings=(".cpp", ".hpp")):
    for folder in folders:
        yield from (path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in endings and path.is_file())


def includes(path):
    return re.findall(r'^\s*#\s*include\s+([<"][^>"]+[>"])', path.read_text(encoding="utf-8"), re.MULTILINE)


def documents():
    return [path for path in all_files() if path.suffix == ".md" and "data" not in path.relative_to(ROOT).parts]


class ImageAndMetadata(unittest.TestCase):
    def setUp(self):
        self.dockerfile = text_of("Dockerfile")
        self.metadata = text_of("metadata.yaml")
        self.version = re.search(r"project\(source_planetscale VERSION (\S+)", text_of("CMakeLists.txt")).group(1)

    def metadata_value(self, key):
        return re.search(rf'^  {key}: *"?([^"\n]+)"?$', self.metadata, re.MULTILINE).group(1)

    def label(self, name):
        return re.search(rf'{re.escape(name)}="([^"]*)"', self.dockerfile).group(1)

    def test_entrypoint_is_what_airbyte_starts(self):
        entrypoint = re.search(r"^ENTRYPOINT \[(.*)\]$", self.dockerfile, re.MULTILINE).group(1)
        words = re.findall(r'"([^"]*)"', entrypoint)
        variable = re.search(r'^ENV AIRBYTE_ENTRYPOINT="([^"]*)"$', self.dockerfile, re.MULTILINE).group(1)
        self.assertEqual(" ".join(words), variable)
        self.assertIn(f" {words[0]}\n", self.dockerfile, "no COPY puts the program there")

    def test_labels_equal_the_metadata(self):
        self.assertEqual(self.label("io.airbyte.name"), self.metadata_value("dockerRepository"))
        self.assertEqual(self.label("io.airbyte.version"), self.metadata_value("dockerImageTag"))

    def test_one_version_everywhere(self):
        self.assertEqual(self.metadata_value("dockerImageTag"), self.version)
        self.assertIn(f"      {self.version}:\n", self.metadata, "no entry in releases.breakingChanges")
        self.assertIn(f"## [{self.version}]", text_of("CHANGELOG.md"))

    def test_image_runs_as_user_1000(self):
        self.assertIn("useradd --uid 1000 --gid 1000", self.dockerfile)
        self.assertLess(self.dockerfile.rindex("USER 1000:1000"), self.dockerfile.rindex("ENTRYPOINT"))

    def test_both_stages_are_of_one_debian(self):
        stages = re.findall(r"^FROM (\S+)", self.dockerfile, re.MULTILINE)
        self.assertEqual(stages, ["debian:bookworm", "debian:bookworm-slim"])

    def test_silence_between_messages_is_declared(self):
        self.assertEqual(self.metadata_value("maxSecondsBetweenMessages"), "7200")


class Documents(unittest.TestCase):
    @staticmethod
    def without_code(text):
        return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))

    @staticmethod
    def anchors(text):
        """The fragments of a page's headings, as GitHub makes them."""
        found = set()
        for heading in re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE):
            words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
            found.add(words.replace(" ", "-"))
        return found

    def test_relative_links_lead_somewhere(self):
        seen = 0
        for page in documents():
            for target in re.findall(r"\]\(([^)\s]+)\)", self.without_code(page.read_text(encoding="utf-8"))):
                if re.match(r"[a-z]+:", target):
                    continue
                seen += 1
                name, _, fragment = urllib.parse.unquote(target).partition("#")
                to = (page.parent / name).resolve() if name else page
                with self.subTest(page=str(page.relative_to(ROOT)), link=target):
                    self.assertTrue(to.exists())
                    if fragment and to.suffix == ".md":
                        self.assertIn(fragment, self.anchors(to.read_text(encoding="utf-8")))
        self.assertGreater(seen, 10)

    def test_readme_has_the_generated_configuration_table(self):
        table = subprocess.run([PRINT_CONFIG_REFERENCE], check=True, capture_output=True, text=True).stdout
        self.assertIn("| `host` |", table)
        self.assertTrue(table in text_of("README.md"), f"put the output of {PRINT_CONFIG_REFERENCE} into README.md")

    def test_types_page_is_the_printed_one(self):
        page = subprocess.run([PRINT_TYPES], check=True, capture_output=True).stdout.decode("utf-8", "replace")
        self.assertTrue(page == (ROOT / "docs/types.md").read_bytes().decode("utf-8", "replace"),
                        f"put the output of {PRINT_TYPES} into docs/types.md")

    def test_readme_names_every_folder(self):
        guide = text_of("README.md").partition("## Guide to the folders")[2]
        for path in ROOT.iterdir():
            if path.is_dir() and is_ours(path) and not path.name.startswith(".") and any(path.iterdir()):
                self.assertIn(f"`{path.name}/`", guide)

    def documented_messages(self):
        """The first column of each row of docs/troubleshooting.md that is a message."""
        rows = [line for line in text_of("docs/troubleshooting.md").splitlines() if line.startswith("| `")]
        self.assertGreater(len(rows), 50)
        for row in rows:
            message = re.match(r"\| (?:``(.+?)``|`([^`]+)`) \|", row)
            self.assertIsNotNone(message, row)
            yield message.group(1) or message.group(2)

    @staticmethod
    def product_sources(endings=(".cpp", ".hpp")):
        """(path, text) of each, with string literals that go on in the next line in one."""
        for path in sources(MAY_INCLUDE, endings):
            yield path, re.sub(r'"\s*\n\s*"', "", path.read_text(encoding="utf-8"))

    def test_documented_messages_are_those_of_the_code(self):
        literals = []
        for _, joined in self.product_sources():
            literals += [literal.replace('\\"', '"') for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"', joined)]
        code = "\n".join(literals)
        for message in self.documented_messages():
            for piece in message.split("…"):
                # The quotes around a name stand in other literals than the words.
                piece = piece.strip().strip('"').strip()
                if len(piece) > 3:
                    with self.subTest(piece=piece):
                        self.assertTrue(piece in code, "no message of the code says this")

    def test_end_to_end_modules_are_listed(self):
        modules = re.search(r"^set\(modules (.*)\)$", text_of("tests/e2e/CMakeLists.txt"), re.MULTILINE).group(1).split()
        page = text_of("tests/e2e/README.md")
        for name in modules:
            self.assertIn(f"| `test_{name}` |", page)

    def test_commands_can_be_run(self):
        for folder in ("scripts", ".ci", "bench"):
            for path in (ROOT / folder).iterdir():
                if path.is_file() and path.read_bytes().startswith(b"#!") and path.suffix != ".py":
                    self.assertTrue(os.access(path, os.X_OK), path)

    # Parts of other messages, behind their colons; and what ends a read that was asked to end.
    PARTS = re.compile(
        r"(a property|the configured catalog|`starting_gtids`|the configuration|a packed state|the state file|a stream's state)?$"
        r'|A (packed state|base64 text|saved cursor) |The (last_known_pk of a saved cursor|saved primary key of table) |"$'
        r"|The primary key column |it cannot be understood|the server has not executed all of it|The read is ending|OpenSSL does not"
    )

    def test_messages_of_the_code_are_documented(self):
        begins = [message.partition("…")[0].replace('"', "") for message in self.documented_messages()]
        told = re.compile(r"""(?:error_code::\w+,|log_level::warn\)?,|warnings\.push_back\(|\b(?:warn|unreachable|refused|tls|tls_fault)\((?:\w+,)?)
                              \s*(?:std::string\()?"((?:[^"\\]|\\.)*)\"""", re.VERBOSE)
        seen = 0
        for path, joined in self.product_sources((".cpp",)):
            for begin in told.findall(joined):
                if self.PARTS.match(begin):
                    continue
                seen += 1
                begin = begin.replace('\\"', "")
                with self.subTest(file=str(path.relative_to(ROOT)), message=begin):
                    # A row that begins with "The …" fits only what begins with that word alone.
                    self.assertTrue(any(one.startswith(begin) or (len(one) > 8 and begin.startswith(one)) for one in begins),
                                    "docs/troubleshooting.md has no row for it")
        self.assertGreater(seen, 150)

    def test_pages_name_tests_that_exist(self):
        known = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in all_files()
                          if path.relative_to(ROOT).parts[0] == "tests" and path.suffix in (".cpp", ".py", ".txtcase"))
        # A string literal may go on in the next line.
        known = re.sub(r'"\s*\n\s*"', "", known).replace('\\"', '"')
        seen = 0
        tests = text_of("docs/tests.md")
        named = tests[tests.index("## Faults that other connectors had"):tests.index("## Not there yet")]
        promises = text_of("docs/reliability.md").partition("## What is promised")[2].partition("\n## ")[0]
        self.assertIn("| Promise |", promises)
        for row in (named + promises).splitlines():
            if not row.startswith("| ") or row.startswith(("| #", "| Case |", "| Promise |")):
                continue
            for name in re.findall(r"`([^`]+)`", row.rsplit("|", 2)[1]):
                seen += 1
                with self.subTest(row=row[:40], name=name):
                    # Files are written as tests/…; everything else is the name of a case.
                    if "/" in name and " " not in name:
                        self.assertTrue((ROOT / name).exists())
                    else:
                        self.assertTrue(name in known, "no test has this name")
        self.assertGreater(seen, 20)


class Sources(unittest.TestCase):
    def test_layers_use_what_they_may(self):
        checked = 0
        for folder in SOURCE_FOLDERS:
            for path in sources((folder,)):
                checked += 1
                for include in includes(path):
                    for name, pattern, allowed in RESTRICTED:
                        if folder not in allowed:
                            with self.subTest(file=str(path.relative_to(ROOT)), include=include):
                                self.assertIsNone(pattern.search(include), f"{name} belongs into {allowed}")
        self.assertGreater(checked, 50)

    def test_pure_layers_do_no_input_or_output(self):
        for path in sources(("protocol", "sync")):
            for include in includes(path):
                with self.subTest(file=str(path.relative_to(ROOT)), include=include):
                    self.assertIsNone(INPUT_OUTPUT.search(include))

    def test_layers_know_only_those_below(self):
        for folder, allowed in MAY_INCLUDE.items():
            for path in sources((folder,)):
                for include in includes(path):
                    name = include[1:-1]
                    if include[0] != '"' or "/" not in name or name in SEAM:
                        continue
                    with self.subTest(file=str(path.relative_to(ROOT)), include=name):
                        self.assertIn(name.split("/")[0], allowed)

    def test_product_does_not_use_local_branch(self):
        for path in sources(MAY_INCLUDE):
            for include in includes(path):
                self.assertNotIn("local_branch/", include, str(path.relative_to(ROOT)))

    def test_every_source_opens_with_what_it_is_for(self):
        for path in sources(SOURCE_FOLDERS, (".cpp", ".hpp", ".proto")):
            with self.subTest(file=str(path.relative_to(ROOT))):
                self.assertRegex(path.read_text(encoding="utf-8").splitlines()[0], r"^// \S")
        for path in all_files():
            if path.parent == ROOT / "scripts" or path.suffix == ".py":
                lines = path.read_text(encoding="utf-8").splitlines()
                if not lines:
                    continue  # __init__.py
                first = lines[1] if lines[0].startswith("#!") else lines[0]
                with self.subTest(file=str(path.relative_to(ROOT))):
                    self.assertRegex(first, r'^(# \S|"""\S)')

    def test_no_file_knows_the_machine_it_was_written_on(self):
        # Put together here, or this file would be one.
        places = [b"/" + word + b"/" for word in (b"work", b"root")]
        checked = 0
        for path in all_files():
            if path.suffix in (".vstream", ".gz"):
                continue
            checked += 1
            content = path.read_bytes()
            for place in places:
                with self.subTest(file=str(path.relative_to(ROOT))):
                    self.assertFalse(place in content)
        self.assertGreater(checked, 100)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    ROOT = pathlib.Path(sys.argv[1]).resolve()
    PRINT_CONFIG_REFERENCE, PRINT_TYPES = sys.argv[2:4]
    unittest.main(argv=[sys.argv[0]] + sys.argv[4:])
