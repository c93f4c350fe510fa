"""The programs of a benchmark as measured processes: local-branch, the connector, the transport floor."""
import base64
import dataclasses
import json
import os
import pathlib
import select
import signal
import subprocess
import tempfile
import threading
import time
import zlib

TICKS = os.sysconf("SC_CLK_TCK")
KEYSPACE = "bench"
# Nothing here takes longer, not even on a busy machine.
LIMIT = 1800.0


@dataclasses.dataclass
class Sample:
    """What one run of a program took. Processor time is user + system of all its threads, from start to exit."""

    cpu: float
    user: float
    wall: float
    peak_kib: int
    branch_cpu: float = 0.0
    extra: dict = dataclasses.field(default_factory=dict)


class Failed(Exception):
    """A program did not do what it was started for; the text says which and what it wrote."""


def cpu_of(pid):
    """Processor seconds that a running process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid):
    """(resident now, largest ever) in KiB."""
    found = {}
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(("VmRSS:", "VmHWM:")):
                name, value = line.split()[:2]
                found[name] = int(value)
    return found.get("VmRSS:", 0), found.get("VmHWM:", 0)


def sockets_of(pid, port):
    """TCP connections of a running process to a port."""
    own = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            own.add(target[8:-1])
    count = 0
    for family in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{family}").read_text(encoding="ascii").splitlines()[1:]:
            parts = line.split()
            count += parts[9] in own and int(parts[2].rpartition(":")[2], 16) == port
    return count


def shard_names(count):
    """The names that Vitess gives to so many shards of equal key ranges."""
    if count == 1:
        return ["-"]
    digits, space = (2, 256) if count <= 256 else (4, 65536)
    bounds = [""] + [f"{i * (space // count):0{digits}x}" for i in range(1, count)] + [""]
    return [f"{low}-{high}" for low, high in zip(bounds, bounds[1:])]


class Server:
    """A program that runs until the end of its `with`, and tells its ports in its first line."""

    def __init__(self, command):
        self.command = [str(part) for part in command]
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"it did not start: {' '.join(self.command)}")
        self.told = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Branch(Server):
    """A running local-branch with one keyspace."""

    def __init__(self, programs, shards, rows, tables=1, arguments=(), tls=None, only=None):
        """`only`: the one table that is read, where it is not sbtest1…N."""
        self.programs = programs
        self.shards = shards
        self.rows = rows
        self.tables = [only] if only else [f"sbtest{i}" for i in range(1, tables + 1)]
        self.tls = tls
        command = [programs.local_branch, "--keyspace", f"{KEYSPACE}:{shards}", "--tables", tables, "--rows", rows]
        if tls:
            command += ["--tls-cert", tls / "cert.pem", "--tls-key", tls / "key.pem"]
        super().__init__([*command, *arguments])
        self.ports = self.told
        self.streams = shards * tables

    def cpu(self):
        return cpu_of(self.process.pid)

    def wait_until_quiet(self):
        """Until the write load of --write-total is done: local-branch uses no processor any more."""
        deadline = time.monotonic() + LIMIT
        before = self.cpu()
        while time.monotonic() < deadline:
            time.sleep(0.5)
            now = self.cpu()
            if now - before <= 1 / TICKS:
                return
            before = now
        raise Failed("local-branch did not become quiet")

    def config(self):
        config = {
            "host": "127.0.0.1",
            "port": self.ports["grpc_port"],
            "mysql_port": self.ports["mysql_port"],
            "database": KEYSPACE,
            "username": "",
            "password": "",
            "tls": {"mode": "disabled"},
        }
        if self.tls:
            ca = (self.tls / "cert.pem").read_text(encoding="ascii")
            config["tls"] = {"mode": "verify", "ca_certificate": ca}
        return config


@dataclasses.dataclass
class Programs:
    """Where the programs are, and a folder for their inputs."""

    build: pathlib.Path
    work: pathlib.Path

    def __post_init__(self):
        self.local_branch = self.build / "local-branch"
        self.connector = self.build / "source-planetscale"
        self.floor = self.build / "bin" / "transport_floor"
        self._files = 0

    def file(self, text, suffix):
        """A new input file with this text (or this value as JSON)."""
        self._files += 1
        path = self.work / f"{self._files}{suffix}"
        path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
        return path


class PeakMemory(threading.Thread):
    """The largest resident memory of a program in KiB, looked at while it runs: what wait4() tells is at least that of this
    process, from which the program was started."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.kib = 0
        self.over = threading.Event()
        self.start()

    def run(self):
        begin = time.monotonic()
        while not self.over.wait(0.001 if time.monotonic() - begin < 0.05 else 0.02):
            try:
                self.kib = max(self.kib, memory_of(self.pid)[1])
            except (FileNotFoundError, ProcessLookupError):
                return  # Somebody has waited for its end.

    def end(self):
        self.over.set()
        self.join()
        return self.kib


def start(command, stdout=subprocess.PIPE):
    """Starts a program; what it writes to standard error goes with its process as `errors`, and its `memory` is watched."""
    errors = tempfile.TemporaryFile()
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors)
    process.errors = errors
    process.memory = PeakMemory(process.pid)
    return process


def finish(process, command):
    """Waits for the end of a program; returns what it used, and its peak memory in KiB. Failed unless it exited with 0."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # Its number stays its own until nobody looks any more.
    peak = process.memory.end()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout:
        process.stdout.close()
    process.errors.seek(0)
    said = process.errors.read()[-2000:].decode(errors="replace")
    process.errors.close()
    if process.returncode != 0:
        raise Failed(f"exit {process.returncode}: {' '.join(map(str, command))}\n{said}")
    return used, peak


def run(command, branch=None, stdout=subprocess.DEVNULL):
    """Runs a program to its end and measures it; stdout=PIPE keeps the output in extra["output"]."""
    before = branch.cpu() if branch else 0.0
    begin = time.monotonic()
    process = start(command, stdout)
    output = process.stdout.read() if stdout == subprocess.PIPE else b""
    used, peak = finish(process, command)
    wall = time.monotonic() - begin
    return Sample(
        cpu=used.ru_utime + used.ru_stime,
        user=used.ru_utime,
        wall=wall,
        peak_kib=peak,
        branch_cpu=(branch.cpu() - before) if branch else 0.0,
        extra={"output": output},
    )


class LongLine:
    """Delaying proxies before both ports of a branch: the connector measures the line at the MySQL port."""

    def __init__(self, branch, round_trip_ms):
        self.round_trip_ms = round_trip_ms
        proxy = [branch.programs.build / "bin" / "delaying_proxy", "--round-trip-ms", round_trip_ms, "--to"]
        self.proxies = {name: Server([*proxy, branch.ports[name]]) for name in ("grpc_port", "mysql_port")}
        self.port = self.proxies["grpc_port"].told["port"]
        self.config = {"port": self.port, "mysql_port": self.proxies["mysql_port"].told["port"]}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for proxy in self.proxies.values():
            proxy.__exit__(*error)


class Reading:
    """`read` of a branch: the inputs, and the ways to run it."""

    def __init__(self, branch, cdc=True, state=None, config=None):
        self.branch = branch
        programs = branch.programs
        settings = {**branch.config(), **(config or {})}
        self.port = settings["port"]
        config_file = programs.file(settings, ".config.json")
        lines = run([programs.connector, "discover", "--config", config_file], stdout=subprocess.PIPE)
        catalog = next(
            message["catalog"]
            for message in map(json.loads, lines.extra["output"].splitlines())
            if message["type"] == "CATALOG"
        )
        streams = []
        for stream in catalog["streams"]:
            if stream["name"] not in branch.tables:
                continue
            if not cdc:
                properties = stream["json_schema"]["properties"]
                for name in [n for n in properties if n.startswith("_ab_cdc_")]:
                    del properties[name]
            streams.append({"stream": stream, "sync_mode": "incremental", "destination_sync_mode": "append"})
        catalog_file = programs.file({"streams": streams}, ".catalog.json")
        self.command = [programs.connector, "read", "--config", config_file, "--catalog", catalog_file]
        if state is not None:
            self.command += ["--state", programs.file(state, ".state.json")]

    def measure(self):
        """One run with standard output to /dev/null."""
        return run(self.command, self.branch)

    def examine(self):
        """One run through a pipe: what it wrote. Not for processor figures."""
        begin = time.monotonic()
        process = start(self.command)
        found = {"records": 0, "record_bytes": 0, "states": {}, "state_lines": 0, "state_bytes": 0, "first_record": None}
        for line in process.stdout:
            if line.startswith(b'{"type":"RECORD"'):
                if found["first_record"] is None:
                    found["first_record"] = time.monotonic() - begin
                found["records"] += 1
                found["record_bytes"] += len(line)
            elif line.startswith(b'{"type":"STATE"'):
                found["state_lines"] += 1
                found["state_bytes"] += len(line)
                state = json.loads(line)["state"]
                found["states"][state["stream"]["stream_descriptor"]["name"]] = state
        finish(process, self.command)
        return found

    def stop_time(self):
        """(seconds to the first record, seconds from SIGTERM to the end), with a reader that takes everything."""
        begin = time.monotonic()
        process = start(self.command)
        fd = process.stdout.fileno()
        head = b""
        while b'{"type":"RECORD"' not in head:
            chunk = os.read(fd, 1 << 20)
            if not chunk:
                raise Failed(f"no record came: {' '.join(map(str, self.command))}")
            head = head[-32:] + chunk
        first = time.monotonic() - begin
        process.send_signal(signal.SIGTERM)
        stop = time.monotonic()
        while os.read(fd, 1 << 20):
            pass
        process.wait()
        ended = time.monotonic() - stop
        process.stdout.close()
        process.errors.close()
        return first, ended

    def paused(self, idle_seconds, hold_server=False, of_each=100_000):
        """A run that stands still in the middle: nobody reads standard output, or (hold_server) the branch is stopped, once `of_each`
        bytes were read for each stream.

        Returns a dict: `share` of a core and `resting` KiB while it stood still, `peak` KiB of the whole run, `sockets` to
        the VStream port of its configuration."""
        process = start(self.command)
        fd = process.stdout.fileno()
        try:
            # Into the middle: every stream is under way.
            taken = 0
            while taken < self.branch.streams * of_each:
                chunk = os.read(fd, 1 << 16)
                if not chunk:
                    raise Failed(f"it ended before the pause: {' '.join(map(str, self.command))}")
                taken += len(chunk)
            if hold_server:
                self.branch.process.send_signal(signal.SIGSTOP)
                while select.select([fd], [], [], 1.0)[0]:
                    os.read(fd, 1 << 20)
            # Until what was under way has come to rest: neither program uses the processor any more.
            deadline = time.monotonic() + LIMIT
            seen = None
            while time.monotonic() < deadline:
                now = (cpu_of(process.pid), 0 if hold_server else self.branch.cpu())
                if seen is not None and all(a - b <= 1 / TICKS for a, b in zip(now, seen)):
                    break
                seen = now
                time.sleep(1.0)
            else:
                raise Failed("the run did not come to rest")
            before, begin = cpu_of(process.pid), time.monotonic()
            time.sleep(idle_seconds)
            share = (cpu_of(process.pid) - before) / (time.monotonic() - begin)
            resting = memory_of(process.pid)[0]
            sockets = sockets_of(process.pid, self.port)
        except BaseException:
            process.kill()
            raise
        finally:
            if hold_server:
                self.branch.process.send_signal(signal.SIGCONT)
        while os.read(fd, 1 << 20):
            pass
        _, peak = finish(process, self.command)
        return {"share": share, "resting": resting, "peak": peak, "sockets": sockets}


class Floor:
    """The transport floor of the same calls that a reading makes."""

    def __init__(self, branch, starts=None, line=None, kind=None):
        """`starts`: {shard: (position, responses)} for the binary log; None for copies. `line`: a LongLine to it.
        `kind`: --scheduled or --client (bench/transport_floor.cpp); None for the floor itself."""
        self.branch = branch
        programs = branch.programs
        if starts is None:
            lines = [f"{shard}\t{table}" for table in branch.tables for shard in shard_names(branch.shards)]
        else:
            lines = [f"{shard}\t{position}\t{responses}" for shard, (position, responses) in starts.items()]
        self.command = [programs.floor, "--port", line.port if line else branch.ports["grpc_port"]]
        self.command += ["--keyspace", KEYSPACE]
        if line:
            self.command += ["--round-trip-us", line.round_trip_ms * 1000]
        self.command += ["--streams", programs.file("".join(call + "\n" for call in lines), ".streams")]
        if starts is not None:
            self.command += ["--tables", ",".join(branch.tables)]
        if branch.tls:
            self.command += ["--ca", branch.tls / "cert.pem"]
        if kind:
            self.command += [kind]

    def measure(self):
        sample = run(self.command, self.branch, stdout=subprocess.PIPE)
        sample.extra = json.loads(sample.extra["output"])
        return sample


# -- positions ------------------------------------------------------------------------------------------------------


def _fields(message):
    """{number: bytes} of a protobuf message of strings and messages."""
    at, found = 0, {}

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag, size = varint(), varint()
        found[tag >> 3] = message[at : at + size]
        at += size
    return found


def _field(number, text):
    data, size = text.encode(), b""
    left = len(data)
    while left > 0x7F:
        size += bytes([left & 0x7F | 0x80])
        left >>= 7
    return bytes([number << 3 | 2]) + size + bytes([left]) + data


def positions(state):
    """{shard: position} of a STATE's payload."""
    body = state["stream"]["stream_state"]
    if "packed" in body:
        body = json.loads(zlib.decompress(base64.b64decode(body["packed"])))

    def position(entry):
        if "position" in entry:  # as packed states have it
            return entry["position"]
        return _fields(base64.b64decode(entry["cursor"]))[3].decode()

    return {shard: position(entry) for shard, entry in body["shards"].items()}


def state_at(tables, where):
    """The states of a read that has every table at these positions, {shard: position}."""
    shards = {
        shard: {
            "cursor": base64.b64encode(_field(1, shard) + _field(2, KEYSPACE) + _field(3, position)).decode(),
            "cdc_cursor": 1,
        }
        for shard, position in where.items()
    }
    return [
        {
            "type": "STREAM",
            "stream": {
                "stream_descriptor": {"name": table, "namespace": KEYSPACE},
                "stream_state": {"shards": shards},
            },
        }
        for table in tables
    ]


def first_transaction(position):
    """("MySQL56/uuid:1", 41) for "MySQL56/uuid:1-42": where a catch-up of 41 transactions starts."""
    source, _, interval = position.rpartition(":")
    first, _, last = interval.partition("-")
    return f"{source}:{first}", int(last or first) - int(first)
