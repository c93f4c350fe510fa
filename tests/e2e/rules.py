"""The rules that every transcript is held to, whatever the test: Airbyte's schema of each record, no secret anywhere, no
state told twice, and only messages that the documentation explains. At the end of a module the sum of what was checked is printed, and
the module fails if a sanitizer has found something in any of its programs."""
import atexit
import base64
import collections
import functools
import json
import os
import pathlib
import re
import sys
import tempfile

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]

# -- JSON schema as Airbyte reads it -------------------------------------------------------------------------------

FORMATS = jsonschema.FormatChecker(formats=("date",))
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?")


@FORMATS.checks("time")
def _is_time(value):
    return not isinstance(value, str) or re.fullmatch(r"\d\d:\d\d:\d\d(\.\d{1,9})?", value) is not None


@FORMATS.checks("date-time")
def _is_date_time(value):
    """Airbyte's format: with or without an offset; which of the two, airbyte_type says (see _check_airbyte_type)."""
    return not isinstance(value, str) or DATE_TIME.fullmatch(value) is not None


def _check_airbyte_type(validator, airbyte_type, value, schema):
    if isinstance(value, str) and schema.get("format") == "date-time":
        has_offset = re.search(r"(Z|[+-]\d\d:\d\d)$", value) is not None
        if has_offset != (airbyte_type == "timestamp_with_timezone"):
            yield jsonschema.ValidationError(f"{value!r} is no {airbyte_type}")
    if airbyte_type == "integer" and isinstance(value, float):
        yield jsonschema.ValidationError(f"{value!r} is no integer: it has a fraction or an exponent")


def _check_encoding(validator, encoding, value, schema):
    if encoding == "base64" and isinstance(value, str):
        try:
            base64.b64decode(value, validate=True)
        except ValueError as error:
            yield jsonschema.ValidationError(f"{value[:80]!r} is no base64: {error}")


STRICT = jsonschema.validators.extend(
    jsonschema.Draft7Validator,
    {"airbyte_type": _check_airbyte_type, "contentEncoding": _check_encoding},
    type_checker=jsonschema.Draft7Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


class StreamSchema:
    """Holds every record of a stream against its json_schema.

    Each value is validated, but a kind of value only once where the schema looks at nothing else: text without format or
    encoding, numbers, booleans, null."""

    def __init__(self, schema):
        self.properties = {
            name: (STRICT(part, format_checker=FORMATS), "format" in part or "contentEncoding" in part)
            for name, part in schema["properties"].items()
        }
        self.whole = STRICT({k: v for k, v in schema.items() if k != "properties"}, format_checker=FORMATS)
        self.known = set()

    def check(self, data):
        """Raises ValidationError or AssertionError."""
        kinds = frozenset(data)
        if kinds not in self.known:
            self.whole.validate(data)
            unknown = kinds - set(self.properties)
            assert not unknown, f"columns that the schema does not have: {unknown}"
            self.known.add(kinds)
        for name, value in data.items():
            validator, by_value = self.properties[name]
            kind = (name, self._kind(value, by_value))
            if kind in self.known:
                continue
            try:
                validator.validate(value)
            except jsonschema.ValidationError as error:
                error.message = f"{name}: {error.message}"
                raise
            if len(self.known) < 1_000_000:
                self.known.add(kind)

    def _kind(self, value, by_value):
        if isinstance(value, str):
            return value if by_value else str
        if isinstance(value, list):
            return tuple(self._kind(v, by_value) for v in value)
        if isinstance(value, dict):
            return tuple(sorted((k, self._kind(v, by_value)) for k, v in value.items()))
        return type(value)


def stream_of(descriptor):
    return (descriptor.get("namespace"), descriptor["name"])


def record_stream(record):
    return (record.get("namespace"), record["stream"])


def check_records(messages, configured):
    """Every record belongs to a configured stream and matches its schema."""
    schemas = {}
    for stream in configured["streams"]:
        schemas[stream_of(stream["stream"])] = StreamSchema(stream["stream"]["json_schema"])
    for message in messages:
        if message["type"] != "RECORD":
            continue
        record = message["record"]
        stream = record_stream(record)
        # A stream configured without namespace belongs to the only keyspace.
        schema = schemas.get(stream) or schemas.get((None, record["stream"]))
        assert schema is not None, f"a record of the unknown stream {stream}"
        try:
            schema.check(record["data"])
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{stream}: {error.message}\n{json.dumps(record)[:2000]}") from error
        CHECKED["records"] += 1


# -- states --------------------------------------------------------------------------------------------------------


def check_states(messages):
    """A state that comes with records is not the one before it once more: Airbyte's protocol knows no sequential duplicates,
    and the platform may tell states apart by what they hold. (Without records a state may be told again.)"""
    before = {}
    for message in messages:
        if message["type"] != "STATE" or message["state"].get("type") != "STREAM":
            continue
        state = message["state"]["stream"]
        stream, count = stream_of(state["stream_descriptor"]), message["state"]["sourceStats"]["recordCount"]
        told = json.dumps(state["stream_state"])
        again = count > 0 and before.get(stream) == told
        assert not again, f"{stream}: {count} records are followed by the same state as was before them: {told[:2000]}"
        before[stream] = told
        CHECKED["states"] += 1


# -- secrets -------------------------------------------------------------------------------------------------------


def spellings(config):
    """The texts that would give away the secrets of a configuration, in the forms that programs print them in."""
    secrets = []
    if not isinstance(config, dict):
        return secrets
    password = config.get("password")
    if isinstance(password, str) and password:
        secrets.append(password)
        login = f"{config.get('username', '')}:{password}".encode()
        secrets += [base64.b64encode(login).decode().rstrip("="), base64.urlsafe_b64encode(login).decode().rstrip("=")]
        secrets.append(base64.b64encode(password.encode()).decode().rstrip("="))
        secrets.append(password.encode().hex())
    tls = config.get("tls")
    key = tls.get("client_key") if isinstance(tls, dict) else None
    if isinstance(key, str):
        # The armour is no secret, each line within is.
        secrets += [line for line in key.splitlines() if line and not line.startswith("-----")]
    for secret in list(secrets):
        escaped = json.dumps(secret)[1:-1]
        secrets += [escaped, json.dumps(escaped)[1:-1]]
    return sorted({s for s in secrets if len(s) >= 6})


def check_no_secret(texts, secrets):
    """None of the texts holds one of the secrets, or the header that carries them."""
    for text in texts:
        CHECKED["secrets sought"] += len(secrets)
        for secret in secrets:
            at = text.find(secret)
            assert at < 0, f"a secret is told: …{text[max(0, at - 200) : at]}<here>"
        header = re.search(r"Basic [A-Za-z0-9+/_-]{8,}", text)
        assert header is None, f"a header with a login is told: …{text[max(0, header.start() - 200) : header.start()]}"


# -- documentation -------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=None)
def documented():
    """The messages of docs/troubleshooting.md as patterns: … stands for anything, also at the end."""
    patterns = []
    for line in (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines():
        row = re.match(r"\| (?:``(.+?)``|`([^`]+)`) \|", line)
        if row:
            pieces = (row.group(1) or row.group(2)).strip().split("…")
            patterns.append(re.compile(".*".join(re.escape(p) for p in pieces), re.DOTALL))
    assert len(patterns) > 50
    return patterns


def explained(message):
    return any(pattern.match(message) for pattern in documented())


def check_explained(messages):
    """What went wrong is told in words that docs/troubleshooting.md explains."""
    for message in messages:
        if message["type"] == "TRACE" and message["trace"]["type"] == "ERROR":
            text = message["trace"]["error"]["message"]
        elif message["type"] == "CONNECTION_STATUS" and message["connectionStatus"]["status"] == "FAILED":
            text = message["connectionStatus"].get("message", "")
        elif message["type"] == "LOG" and message["log"]["level"] in ("WARN", "ERROR", "FATAL"):
            text = message["log"]["message"]
        else:
            continue
        assert explained(text), f"docs/troubleshooting.md does not explain: {text}"
        CHECKED["messages explained"] += 1


# -- sanitizers ----------------------------------------------------------------------------------------------------

# Reports go to files, not to standard error: that of a program which a test kills is often read by nobody. In a program
# without sanitizers these mean nothing.
REPORTS = tempfile.TemporaryDirectory(prefix="psource-reports-")
for _variable in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"):
    os.environ[_variable] = f"{os.environ.get(_variable, '')}:log_path={REPORTS.name}/report:print_stacktrace=1"


def sanitizer_reports():
    """What sanitizers have written until now."""
    return [file.read_text(errors="replace") for file in sorted(pathlib.Path(REPORTS.name).iterdir())]


# -- the sum -------------------------------------------------------------------------------------------------------

CHECKED = collections.Counter()


@atexit.register
def _end():
    if CHECKED:
        print("checked: " + ", ".join(f"{count} {what}" for what, count in CHECKED.items()), file=sys.stderr)
    reports = sanitizer_reports()
    if reports:
        print(f"{len(reports)} programs with reports of a sanitizer:", *reports[:5], sep="\n", file=sys.stderr, flush=True)
        REPORTS.cleanup()
        os._exit(1)


def check_transcript(transcript, config=None, configured=None):
    """All of the rules; `configured` is the catalog of a read."""
    CHECKED["transcripts"] += 1
    CHECKED["lines"] += len(transcript.messages)
    check_no_secret((transcript.output.decode("utf-8", "replace"), transcript.stderr), spellings(config))
    check_explained(transcript.messages)
    check_states(transcript.messages)
    if configured is not None:
        check_records(transcript.messages, configured)
