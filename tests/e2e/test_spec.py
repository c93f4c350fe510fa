"""The spec command: the rules of Airbyte's acceptance tests for a specification."""
import array
import fcntl
import json
import os
import random
import subprocess
import termios
import unittest

import jsonschema

from tests.e2e.harness import CONNECTOR, Connector, Process

FORBIDDEN = {
    "not",
    "anyOf",
    "patternProperties",
    "prefixItems",
    "allOf",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "$ref",
}
SECRET_NAMES = ("password", "key", "token", "secret", "certificate", "credentials")
# Keys that planetscale/airbyte-source knows: its users' configurations stay valid.
OLD_KEYS = {
    "host": "aws.connect.psdb.cloud",
    "database": "commerce",
    "username": "reader",
    "password": "pscale_pw_x",
    "use_replica": True,
    "use_rdonly": False,
    "shards": "-80,80-",
    "include_metadata": True,
    "starting_gtids": '{"commerce": {"-": "MySQL56/0d5afdd6-da80-11ef-844c-26dc1854a614:1-10"}}',
    "max_retries": 3,
    "timeout_seconds": 600,
    "use_gtid_with_table_pks": True,
    "options": {"do_not_treat_tiny_int_as_boolean": True},
}


def objects(schema, path="$"):
    """Every schema of a tree: (path, schema); property names are no schemas."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from objects(part, f"{path}.{name}")
    for i, part in enumerate(schema.get("oneOf", [])):
        yield from objects(part, f"{path}[{i}]")
    if isinstance(schema.get("items"), dict):
        yield from objects(schema["items"], f"{path}[]")


class SpecStart(unittest.TestCase):
    def test_spec_starts_no_thread_and_opens_no_socket(self):
        # A pipe with room for one page holds the program in the middle of writing the specification.
        reading, writing = os.pipe()
        size = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)  # The program would widen a smaller one.
        os.write(writing, bytes(size))
        process = subprocess.Popen([CONNECTOR, "spec"], stdin=subprocess.DEVNULL, stdout=writing)
        os.close(writing)
        try:
            os.read(reading, 4096)
            waiting = array.array("i", [0])
            while waiting[0] < size and process.poll() is None:
                fcntl.ioctl(reading, termios.FIONREAD, waiting)
            self.assertIsNone(process.poll(), "the specification fits into the pipe, or the program ended early")
            threads = os.listdir(f"/proc/{process.pid}/task")
            opened = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{process.pid}/fd")]
            self.assertEqual(len(threads), 1)
            self.assertEqual([name for name in opened if name.startswith("socket:")], [])
        finally:
            with os.fdopen(reading, "rb") as rest:
                rest.read()
            process.wait()
        self.assertEqual(process.returncode, 0)


class SpecRules(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Process([CONNECTOR, "spec"]) as process:
            transcript = process.transcript()
        cls.code = transcript.code
        cls.messages = transcript.messages
        cls.spec = transcript.of("SPEC")[0]
        cls.schema = cls.spec["connectionSpecification"]
        cls.parts = list(objects(cls.schema))

    def test_spec_prints_one_message_and_succeeds(self):
        self.assertEqual(0, self.code)
        self.assertEqual(["SPEC"], [m["type"] for m in self.messages])
        self.assertTrue(self.spec["supportsIncremental"])
        self.assertEqual({"append", "overwrite", "append_dedup"}, set(self.spec["supported_destination_sync_modes"]))
        self.assertRegex(self.spec["documentationUrl"], "^https://")

    def test_schema_is_valid_draft_7_without_forbidden_keywords(self):
        jsonschema.Draft7Validator.check_schema(self.schema)
        for path, part in self.parts:
            self.assertEqual(set(), FORBIDDEN & set(part), path)

    def test_types_are_single_or_nullable_and_objects_are_not_empty(self):
        for path, part in self.parts:
            kind = part.get("type")
            if isinstance(kind, list):
                self.assertEqual(2, len(kind), path)
                self.assertIn("null", kind, path)
            if kind == "object":
                self.assertTrue(part.get("properties") or part.get("oneOf"), path)
            if "enum" in part:
                self.assertEqual(len(part["enum"]), len(set(part["enum"])), path)

    def test_groups_display_types_and_items(self):
        for path, part in self.parts:
            if "group" in part:
                self.assertEqual(1, path.count("."), f"{path}: only keys of the top have a group")
            if "display_type" in part:
                self.assertIn("oneOf", part, path)
            if part.get("type") == "array":
                items = part["items"]
                self.assertTrue("enum" in items or items["type"] in ("string", "number", "integer", "object"), path)
            if "pattern" in part:
                self.assertRegex(part.get("default", part.get("examples", [""])[0]), part["pattern"], path)

    def test_additional_properties_are_allowed_everywhere(self):
        self.assertIs(True, self.schema["additionalProperties"])
        for path, part in self.parts:
            self.assertIsNot(False, part.get("additionalProperties"), path)

    def test_secrets_are_marked_and_never_printed_as_false(self):
        """S13: airbyte_secret is there where it is needed and nowhere as false."""
        for path, part in self.parts:
            self.assertIsNot(False, part.get("airbyte_secret"), path)
            name = path.rsplit(".", 1)[-1]
            if part.get("type") in ("string", "integer", "number") and any(s in name for s in SECRET_NAMES):
                self.assertIs(True, part.get("airbyte_secret"), path)
        self.assertIs(True, self.schema["properties"]["password"]["airbyte_secret"])
        tls = self.schema["properties"]["tls"]["oneOf"]
        self.assertTrue(any(v["properties"].get("client_key", {}).get("airbyte_secret") for v in tls))

    def test_one_of_variants_share_exactly_one_constant(self):
        """S14: the platform's form needs one common property with a const in every variant."""
        found = 0
        for path, part in self.parts:
            if "oneOf" not in part:
                continue
            found += 1
            self.assertEqual("object", part["type"], path)
            constants = []
            for variant in part["oneOf"]:
                self.assertTrue(variant["properties"], path)
                self.assertEqual("object", variant["type"], path)
                self.assertTrue(variant["title"], path)
                constants.append({n: p["const"] for n, p in variant["properties"].items() if "const" in p})
                for entry in variant["properties"].values():
                    if "const" in entry:
                        self.assertEqual(entry["const"], entry.get("default", entry["const"]))
                        self.assertEqual([entry["const"]], entry.get("enum", [entry["const"]]))
            common = set.intersection(*(set(c) for c in constants))
            self.assertEqual(1, len(common), path)
            name = common.pop()
            values = [c[name] for c in constants]
            self.assertEqual(len(values), len(set(values)), path)
        self.assertGreater(found, 0)

    def test_orders_are_unique_within_an_object(self):
        for path, part in self.parts:
            orders = [p["order"] for p in part.get("properties", {}).values() if "order" in p]
            self.assertEqual(len(orders), len(set(orders)), path)
            for name, entry in part.get("properties", {}).items():
                self.assertTrue(entry.get("title") or "const" in entry, f"{path}.{name} has no title")

    def test_configurations_of_the_older_connector_stay_valid(self):
        validator = jsonschema.Draft7Validator(self.schema)
        draw = random.Random(7)
        optional = sorted(set(OLD_KEYS) - {"host", "database", "username", "password"})
        for _ in range(100):
            chosen = set(OLD_KEYS) - set(draw.sample(optional, draw.randint(0, len(optional))))
            validator.validate({key: OLD_KEYS[key] for key in chosen})
        self.assertLessEqual(set(self.schema["required"]), {"host", "database", "username", "password"})
        self.assertLessEqual(set(OLD_KEYS), set(self.schema["properties"]))

    def test_defaults_are_what_their_own_schema_allows(self):
        for path, part in self.parts:
            if "default" in part:
                jsonschema.Draft7Validator(part).validate(part["default"])
            for example in part.get("examples", []):
                jsonschema.Draft7Validator(part).validate(example)

    def test_spec_needs_no_files_and_ignores_none(self):
        with Connector({}) as connector:
            again = connector.run("spec")
        self.assertEqual(json.dumps(self.spec), json.dumps(again.of("SPEC")[0]))


if __name__ == "__main__":
    unittest.main()
