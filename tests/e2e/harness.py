"""What the end-to-end tests share: a local branch, the connector as a program, and Airbyte's view of what it wrote."""
import base64
import itertools
import json
import os
import pathlib
import select
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import warnings
import zlib

from airbyte_protocol.models import AirbyteMessage, ConfiguredAirbyteCatalog

from tests.e2e import protobuf
from tests.e2e.rules import FORMATS, STRICT, check_transcript, record_stream, stream_of  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("PSOURCE_BIN_DIR", ROOT / "build")).resolve()
CONNECTOR = BIN / "source-planetscale"
LOCAL_BRANCH = BIN / "local-branch"
RECORDINGS = ROOT / "tests" / "data" / "recordings"
GOLDEN = ROOT / "tests" / "golden"

# The branch takes any login unless it was given one; this one is sought in every output.
USERNAME, PASSWORD = "reader", "pscale_pw_t7Gq\"'\\%24+Lx/0="

# Nothing that a test waits for takes longer than this, unless the test says so.
LIMIT = 60.0

PAYLOADS = {
    "RECORD": "record",
    "STATE": "state",
    "LOG": "log",
    "SPEC": "spec",
    "CONNECTION_STATUS": "connectionStatus",
    "CATALOG": "catalog",
    "TRACE": "trace",
}


class ProtocolError(AssertionError):
    """Standard output held something that is not an Airbyte message."""


def parse_message(line):
    """One line of standard output as a message; everything that the platform would drop or refuse is an error."""
    try:
        text = line.decode("utf-8")
        message = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"not JSON in UTF-8 ({error}): {line[:300]!r}") from error
    if not isinstance(message, dict) or message.get("type") not in PAYLOADS:
        raise ProtocolError(f"not an Airbyte message: {text[:300]}")
    payload = message.get(PAYLOADS[message["type"]])
    if not isinstance(payload, dict):
        raise ProtocolError(f"a message without its payload: {text[:300]}")
    try:
        AirbyteMessage.model_validate(message)
    except ValueError as error:
        raise ProtocolError(f"Airbyte's own model refuses it ({error}): {text[:300]}") from error
    if message["type"] == "RECORD" and not payload["data"]:
        raise ProtocolError(f"a record without data: {text[:300]}")
    return message


# -- what a run wrote ----------------------------------------------------------------------------------------------


class Transcript:
    """The messages of one run, in order."""

    def __init__(self, output, code, errors=b"", cut=False):
        self.output = output
        self.code = code
        self.stderr = errors.decode("utf-8", "replace")
        lines = output.split(b"\n")
        rest = lines.pop()
        if rest and not cut:
            raise ProtocolError(f"the last line has no end: {rest[-300:]!r}")
        self.lines = lines
        self.messages = [parse_message(line) for line in lines]

    def of(self, kind):
        return [m[PAYLOADS[kind]] for m in self.messages if m["type"] == kind]

    @property
    def records(self):
        return self.of("RECORD")

    @property
    def confirmed(self):
        """The records that a state of their stream follows."""
        found, waiting = [], {}
        for message in self.messages:
            if message["type"] == "RECORD":
                waiting.setdefault(record_stream(message["record"]), []).append(message["record"])
            elif message["type"] == "STATE":
                found += waiting.pop(state_stream(message["state"]), [])
        return found

    @property
    def states(self):
        return self.of("STATE")

    @property
    def logs(self):
        return [f"{log['level']} {log['message']}" for log in self.of("LOG")]

    @property
    def errors(self):
        return [trace["error"] for trace in self.of("TRACE") if trace["type"] == "ERROR"]

    @property
    def statuses(self):
        """[(stream, status), …] with streams as (namespace, name)."""
        return [
            (stream_of(trace["stream_status"]["stream_descriptor"]), trace["stream_status"]["status"])
            for trace in self.of("TRACE")
            if trace["type"] == "STREAM_STATUS"
        ]

    @property
    def connection_status(self):
        found = self.of("CONNECTION_STATUS")
        assert len(found) == 1, f"{len(found)} CONNECTION_STATUS messages\n{self.explain()}"
        return found[0]

    @property
    def catalog(self):
        found = self.of("CATALOG")
        assert len(found) == 1, f"{len(found)} CATALOG messages\n{self.explain()}"
        return found[0]

    def state_file(self, before=()):
        """The last state of each stream as the platform hands it back, explicit nulls included. `before` is the state
        that the run was started with."""
        last = {stream_of(state["stream"]["stream_descriptor"]): state for state in before}
        for state in self.states:
            last[stream_of(state["stream"]["stream_descriptor"])] = {
                "type": state["type"],
                "stream": state["stream"],
                "global": None,
                "data": None,
                "sourceStats": None,
                "destinationStats": None,
            }
        return list(last.values())

    def explain(self):
        """For assertion messages: how it ended and what it said."""
        kinds = {kind: len(self.of(kind)) for kind in PAYLOADS if self.of(kind)}
        return "\n".join(
            [f"exit {self.code}, {kinds}", *(json.dumps(e) for e in self.errors), *self.logs[-25:], self.stderr[-2000:]]
        )


def state_stream(state):
    return stream_of(state["stream"]["stream_descriptor"])


def shards_of(state):
    """stream_state.shards of one STATE payload, unpacked."""
    body = state["stream"]["stream_state"]
    if "packed" in body:
        body = json.loads(zlib.decompress(base64.b64decode(body["packed"])))
    return body["shards"]


def cursors_of(state):
    """{shard: protobuf.TableCursor} of one STATE payload."""
    return {name: protobuf.TableCursor.decode(entry["cursor"]) for name, entry in shards_of(state).items()}


def move_cursors(state, position):
    """Gives each shard of one STATE payload (not packed) the position that `position(its own)` returns."""
    for shard, cursor in cursors_of(state).items():
        cursor.position = position(cursor.position)
        state["stream"]["stream_state"]["shards"][shard]["cursor"] = cursor.encode()


def fold(transcripts, keys=None, key="id", only_confirmed=False):
    """What a destination that deduplicates holds in the end: {(namespace, stream): {key: data}}. The largest
    _ab_cdc_cursor of a key wins, a later record breaks ties, deleted rows are gone. With `only_confirmed` records that
    no state follows are left out: after a failed sync the platform throws them away."""
    newest = {}
    for record in itertools.chain.from_iterable(t.confirmed if only_confirmed else t.records for t in transcripts):
        data = record["data"]
        stream = record_stream(record)
        columns = (keys or {}).get(stream, [key])
        at = (stream, tuple(data[column] for column in columns))
        if at not in newest or data["_ab_cdc_cursor"] >= newest[at]["_ab_cdc_cursor"]:
            newest[at] = data
    rows = {}
    for (stream, row_key), data in newest.items():
        table = rows.setdefault(stream, {})
        if data.get("_ab_cdc_deleted_at") is None:
            table[row_key if len(row_key) > 1 else row_key[0]] = {
                name: value for name, value in data.items() if not name.startswith("_")
            }
    return rows


def sbtest_truth(lines):
    """The truth of a branch with sbtest tables in the form of fold()."""
    rows = {}
    for line in lines:
        row = line["row"]
        rows.setdefault((line["keyspace"], line["table"]), {})[int(row["id"])] = {
            "id": int(row["id"]),
            "k": int(row["k"]),
            "c": row["c"],
            "pad": row["pad"],
        }
    return rows


def difference(found, expected):
    """A short text that says how two folds differ; empty when they do not."""
    parts = []
    for stream in sorted(set(found) | set(expected), key=str):
        a, b = found.get(stream, {}), expected.get(stream, {})
        missing = sorted(set(b) - set(a))
        extra = sorted(set(a) - set(b))
        other = sorted(k for k in set(a) & set(b) if a[k] != b[k])
        for what, keys in (("missing", missing), ("too many", extra), ("other values", other)):
            if keys:
                parts.append(f"{stream}: {len(keys)} {what}, first {keys[:5]}")
        if other:
            parts.append(f"  found {a[other[0]]}\n  truth {b[other[0]]}")
    return "\n".join(parts)


# -- programs ------------------------------------------------------------------------------------------------------


class Process:
    """A program that was started, with its output read line by line up to a time limit. `config` and `configured` are what
    a connector was given: its transcript is checked against them. Standard error goes to a file unless `stderr` says where."""

    def __init__(self, arguments, env=None, stdout=subprocess.PIPE, config=None, configured=None, stderr=None):
        self.config_given, self.configured = config, configured
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [str(a) for a in arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=self.errors if stderr is None else stderr,
            env=env,
        )
        self._buffer = bytearray()
        self._searched = 0
        self.read = bytearray()

    def line(self, limit=LIMIT):
        """The next whole line with its end, or what is left at the end of the output (b"" when nothing is)."""
        deadline = time.monotonic() + limit
        fd = self.process.stdout.fileno()
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[: end + 1])
                del self._buffer[: end + 1]
                self._searched = 0
                break
            self._searched = len(self._buffer)
            if not select.select([fd], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"no line within {limit} s; stderr: {self.stderr().decode(errors='replace')[-2000:]}")
            chunk = os.read(fd, 1 << 16)
            if not chunk:
                line = bytes(self._buffer)
                self._buffer.clear()
                self._searched = 0
                break
            self._buffer += chunk
        self.read += line
        return line

    def wait_for_line(self, text, limit=LIMIT):
        """Takes lines until one has the text."""
        while text not in (line := self.line(limit)):
            assert line, f"standard output ended without {text!r}"

    def rest(self, limit=LIMIT):
        """Reads to the end and waits for the exit; returns everything that was ever read."""
        deadline = time.monotonic() + limit
        while self.line(max(0.0, deadline - time.monotonic())):
            pass
        self.wait(max(0.1, deadline - time.monotonic()))
        return bytes(self.read)

    def transcript(self, limit=LIMIT, cut=False):
        output = self.rest(limit)
        transcript = Transcript(output, self.process.returncode, self.stderr(), cut)
        check_transcript(transcript, self.config_given, self.configured)
        return transcript

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, limit=LIMIT):
        return self.process.wait(limit)

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read()

    def close(self):
        """Ends it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT)
        if self.process.stdout and not self.process.stdout.closed:
            self.process.stdout.close()
        self.errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class LocalBranch(Process):
    """A sharded branch on this machine. stop() returns its truth."""

    def __init__(
        self,
        keyspaces=("commerce:1",),
        tables=1,
        rows=100,
        write_rate=None,
        write_total=None,
        write_burst=None,
        seed=1,
        replay=(),
        username=None,
        password=None,
        tls=None,
        options=(),
    ):
        self.folder = tempfile.TemporaryDirectory(prefix="psource-branch-")
        self.truth_file = pathlib.Path(self.folder.name) / "truth.jsonl"
        self.keyspace_names = [k.rsplit(":", 1)[0] for k in keyspaces] if not replay else []
        arguments = [LOCAL_BRANCH]
        if replay:
            for file in replay:
                arguments += ["--replay", file]
        else:
            for keyspace in keyspaces:
                arguments += ["--keyspace", keyspace]
            arguments += ["--tables", tables, "--rows", rows]
        arguments += ["--seed", seed, "--grpc-port", 0, "--mysql-port", 0, "--truth", self.truth_file]
        if write_rate is not None:
            arguments += ["--write-rate", write_rate]
        if write_total is not None:
            arguments += ["--write-total", write_total]
        if write_burst is not None:
            arguments += ["--write-burst", write_burst]
        self.write_total = write_total
        self.username, self.password = username, password
        if username is not None:
            arguments += ["--username", username, "--password", password]
        if tls is not None:
            arguments += ["--tls-cert", tls[0], "--tls-key", tls[1]]
        super().__init__([*arguments, *options])
        try:
            ready = self.line()
            ports = json.loads(ready) if ready else None
        except BaseException:
            self.close()
            raise
        if ports is None:
            self.process.wait(LIMIT)
            said = self.stderr().decode(errors="replace")
            self.close()
            raise RuntimeError(f"local-branch did not start (exit {self.process.returncode}): {said}")
        self.grpc_port = ports["grpc_port"]
        self.mysql_port = ports["mysql_port"]

    def wait_until_quiet(self):
        """Waits until all of --write-total is written; True when it had to wait. Without a total it is always quiet."""
        waited = False
        while self.write_total is not None and b'"quiet"' not in self.read:
            assert self.line(), "local-branch ended before it was quiet"
            waited = True
        return waited

    def burst(self):
        """Writes what --write-burst says, and waits until it is there."""
        self.signal(signal.SIGUSR2)
        while True:
            line = self.line()
            assert line, "local-branch ended before it had written"
            if "written" in json.loads(line):
                return

    def config(self, **changes):
        """A configuration for this branch; a value None takes the key away."""
        config = {
            "host": "127.0.0.1",
            "port": self.grpc_port,
            "mysql_port": self.mysql_port,
            "database": ",".join(self.keyspace_names),
            "username": USERNAME if self.username is None else self.username,
            "password": PASSWORD if self.password is None else self.password,
            "tls": {"mode": "disabled"},
            "timeout_seconds": 60,
        }
        config.update(changes)
        return {key: value for key, value in config.items() if value is not None}

    def stop(self):
        """SIGTERM; the truth, one dictionary per row."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"local-branch exit {code}: {self.stderr().decode(errors='replace')[-2000:]}"
        with open(self.truth_file, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def close(self):
        super().close()
        self.folder.cleanup()


class Connector:
    """The connector with a configuration; its input files live as long as this object."""

    def __init__(self, config, catalog=None):
        self.folder = tempfile.TemporaryDirectory(prefix="psource-run-")
        self.numbers = itertools.count()
        self.content = config
        self.config = self.file(config)
        self._catalog = catalog

    def file(self, content):
        path = pathlib.Path(self.folder.name) / f"{next(self.numbers)}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def start(self, command, *options, stdout=subprocess.PIPE, configured=None):
        return Process([CONNECTOR, command, *options], stdout=stdout, config=self.content, configured=configured)

    def run(self, command, *options, limit=LIMIT):
        with self.start(command, *options) as process:
            return process.transcript(limit)

    def check(self, limit=LIMIT, *options):
        return self.run("check", "--config", self.config, *options, limit=limit)

    def discover(self):
        found = self.run("discover", "--config", self.config)
        assert found.code == 0, found.explain()
        return found.catalog

    @property
    def catalog(self):
        if self._catalog is None:
            self._catalog = self.discover()
        return self._catalog

    def read_arguments(self, configured=None, state=None, options=()):
        configured = configured or configure(self.catalog)
        arguments = ["read", "--config", self.config, "--catalog", self.file(configured)]
        if state is not None:
            arguments += ["--state", self.file(state)]
        return [*arguments, *options]

    def start_read(self, configured=None, state=None, options=(), matches_schema=True):
        """`matches_schema` is false for catalogs that declare other types than this connector's."""
        configured = configured or configure(self.catalog)
        arguments = self.read_arguments(configured, state, options)
        return self.start(*arguments, configured=configured if matches_schema else None)

    def read(self, configured=None, state=None, options=(), limit=LIMIT, ok=True, matches_schema=True):
        with self.start_read(configured, state, options, matches_schema) as process:
            transcript = process.transcript(limit)
        if ok:
            assert transcript.code == 0, transcript.explain()
            check_read(transcript, configured or configure(self.catalog))
        return transcript

    def close(self):
        self.folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def configure(catalog, mode="incremental", only=None, nulls=False, **extra):
    """A configured catalog of the streams of a discovered one. `only` chooses by name or (namespace, name)."""
    streams = []
    for stream in catalog["streams"]:
        if only is not None and stream["name"] not in only and stream_of(stream) not in only:
            continue
        configured = {
            "stream": stream,
            "sync_mode": mode,
            "destination_sync_mode": "append_dedup" if mode == "incremental" else "overwrite",
            "cursor_field": stream["default_cursor_field"],
            "primary_key": stream["source_defined_primary_key"],
        }
        if nulls:
            configured.update(generation_id=None, minimum_generation_id=None, sync_id=None, include_files=None)
        configured.update(extra)
        streams.append(configured)
    configured = {"streams": streams}
    ConfiguredAirbyteCatalog.model_validate(configured)
    return configured


# -- rules that hold for every read that succeeds ------------------------------------------------------------------

def check_read(transcript, configured):
    """The rules of Airbyte's contract for a read that ended well, for every stream of the configured catalog. (Its records
    are held against the schema in every transcript.)"""
    streams = {stream_of(c["stream"]): c for c in configured["streams"]}
    status = {s: [] for s in streams}
    since_state = dict.fromkeys(streams, 0)
    states = {s: [] for s in streams}
    for message in transcript.messages:
        kind = message["type"]
        if kind == "RECORD":
            stream = record_stream(message["record"])
            assert stream in streams, f"a record of the unknown stream {stream}"
            assert status[stream] and status[stream][-1] == "RUNNING", f"a record of {stream} at {status[stream]}"
            since_state[stream] += 1
        elif kind == "STATE":
            body = message["state"]
            assert body["type"] == "STREAM", body
            assert "data" not in body and "global" not in body, body
            stream = state_stream(body)
            assert stream in streams, f"a state of the unknown stream {stream}"
            assert "COMPLETE" not in status[stream], f"a state of {stream} after COMPLETE"
            count = body["sourceStats"]["recordCount"]
            assert count == since_state[stream], f"{stream}: recordCount {count}, but {since_state[stream]} records"
            since_state[stream] = 0
            states[stream].append(body)
        elif kind == "TRACE" and message["trace"]["type"] == "STREAM_STATUS":
            trace = message["trace"]["stream_status"]
            stream = stream_of(trace["stream_descriptor"])
            assert stream in streams, f"a status of the unknown stream {stream}"
            status[stream].append(trace["status"])
    assert not transcript.errors, transcript.explain()
    for stream in streams:
        assert status[stream] == ["STARTED", "RUNNING", "COMPLETE"], f"{stream}: {status[stream]}"
        assert states[stream], f"{stream} has no state"
        assert since_state[stream] == 0, f"{stream}: {since_state[stream]} records after the last state"
        if streams[stream]["sync_mode"] == "incremental":
            names = [set(shards_of(s)) for s in states[stream]]
            resharded = any("reshard" in log or "replaced by others" in log for log in transcript.logs)
            assert resharded or all(n == names[0] for n in names), f"{stream}: states list different shards: {names}"


class BranchTest(unittest.TestCase):
    """A test with helpers that end what they start."""

    branches = ()

    def branch(self, *arguments, **options):
        branch = LocalBranch(*arguments, **options)
        self.addCleanup(branch.close)
        self.branches = (*self.branches, branch)
        return branch

    def connector(self, config, catalog=None):
        connector = Connector(config, catalog)
        self.addCleanup(connector.close)
        return connector

    def closed_port(self):
        """A port on which nobody listens: connections to it are refused. It stays bound until the test is over, so that no
        other program gets it meanwhile."""
        bound = socket.socket()
        self.addCleanup(bound.close)
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]

    def assert_truth(self, transcripts, branch, streams=None):
        """Stops the branch; the fold of everything that was read equals its rows."""
        truth = sbtest_truth(branch.stop())
        if streams is not None:
            truth = {s: rows for s, rows in truth.items() if s in streams}
        self.assertTrue(truth, "the truth is empty, nothing was compared")
        self.assertEqual("", difference(fold(transcripts), truth))
        return truth

    def read_until_quiet(self, connector, configured, state, transcripts, **options):
        """Incremental reads, each from the state of the one before, until all writes are over and one brings nothing; the
        last state. (A read may bring nothing because the writer had no turn on a busy machine.) `options`: those of read()."""
        for _ in range(200):
            transcript = connector.read(configured, state, **options)
            transcripts.append(transcript)
            state = transcript.state_file(state or ())
            if not transcript.records and not any([branch.wait_until_quiet() for branch in self.branches]):
                return state
        raise AssertionError("the branch does not become quiet")


# -- servers that misbehave ----------------------------------------------------------------------------------------


def serve_each(listener, serve):
    """Calls serve(connection) for one client after the other, on one thread, until the listener is closed."""

    def accept():
        while True:
            try:
                client = listener.accept()[0]
            except OSError:
                return
            serve(client)

    threading.Thread(target=accept, daemon=True).start()


class Relay:
    """Passes connections on to another port, and keeps what clients say. The first connection may go to a port of its own."""

    def __init__(self, port, first=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.to = itertools.chain([first or port], itertools.repeat(port))
        self.said = bytearray()
        self.sockets = [self.listener]
        serve_each(self.listener, self._serve)

    def _serve(self, client):
        server = socket.create_connection(("127.0.0.1", next(self.to)))
        self.sockets += [client, server]
        for source, sink, keeps in ((client, server, True), (server, client, False)):
            threading.Thread(target=self._pass_on, args=(source, sink, keeps), daemon=True).start()

    def _pass_on(self, source, sink, keeps):
        try:
            while data := source.recv(1 << 16):
                if keeps:
                    self.said += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        for each in self.sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()


class SilentServer:
    """Accepts connections and never says a word."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = []
        self.arrived = threading.Event()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                self.connections.append(self.listener.accept()[0])
                self.arrived.set()
            except OSError:
                return

    def next_connection(self):
        """Waits until somebody connects (after the last call)."""
        assert self.arrived.wait(LIMIT), "nobody connected"
        self.arrived.clear()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(LIMIT)
        for connection in self.connections:
            connection.close()


class Authority:
    """A certificate authority. Its files lie in the folder, which is the caller's."""

    EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def __init__(self, folder, name="test authority"):
        self.folder = pathlib.Path(folder)
        self.numbers = itertools.count()
        self.certificate, self.key = self._file("ca"), self._file("ca-key")
        self._openssl("req", "-x509", *self.EC, "-days", 2, "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.certificate)
        ssl.create_default_context(cafile=str(self.certificate))  # it can be loaded

    def _file(self, kind):
        return self.folder / f"{kind}-{next(self.numbers)}.pem"

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=LIMIT)

    def issue(self, names=("DNS:localhost", "IP:127.0.0.1"), days=2):
        """(certificate file, key file); with negative days it has expired."""
        request, certificate, key = self._file("request"), self._file("certificate"), self._file("key")
        alt_names = "subjectAltName=" + ",".join(names)
        self._openssl("req", *self.EC, "-subj", "/CN=issued", "-addext", alt_names, "-keyout", key, "-out", request)
        self._openssl(
            *["x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"],
            *["-days", days, "-copy_extensions", "copy", "-out", certificate],
        )
        return certificate, key


class OldTlsServer:
    """Speaks TLS 1.1 at most, and keeps what clients say once a handshake is over."""

    def __init__(self, certificate, key):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
            self.context.minimum_version = ssl.TLSVersion.TLSv1
            self.context.maximum_version = ssl.TLSVersion.TLSv1_1
        # OpenSSL counts the signatures of these versions as broken: they exist at security level 0 only.
        self.context.set_ciphers("ALL:@SECLEVEL=0")
        self.context.set_alpn_protocols(["h2"])
        self.context.load_cert_chain(certificate, key)
        self.said = bytearray()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        serve_each(self.listener, self._serve)

    def _serve(self, client):
        threading.Thread(target=self._listen, args=(client,), daemon=True).start()

    def _listen(self, client):
        try:
            with self.context.wrap_socket(client, server_side=True) as inner:
                while data := inner.recv(1 << 16):
                    self.said += data
        except OSError:
            pass  # the handshake failed

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def make_certificate(folder, names=("DNS:localhost", "IP:127.0.0.1"), common_name="localhost"):
    """A self-signed certificate; (certificate file, key file)."""
    folder = pathlib.Path(folder)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={common_name}", "-addext", "subjectAltName=" + ",".join(names)]
        + ["-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    ssl.create_default_context(cafile=str(certificate))  # it can be loaded
    return certificate, key
