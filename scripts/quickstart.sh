#!/usr/bin/env bash
# Builds the connector and shows its main job on a sharded branch on this machine: spec, check, discover, a first read,
# and a second one that brings only what changed since. Nothing else is needed: no database, no account.
# Usage: scripts/quickstart.sh [--no-setup] [--no-build]
set -euo pipefail
cd "$(dirname "$0")/.."

setup=yes
build=yes
for argument in "$@"; do
  case "$argument" in
    --no-setup) setup=no ;;
    --no-build) build=no ;;
    *) echo "quickstart.sh: unknown argument '$argument' (known: --no-setup, --no-build)" >&2; exit 2 ;;
  esac
done
if [ "$setup" = yes ]; then
  bash scripts/setup.sh
fi
if [ "$build" = yes ]; then
  echo "Building (the first time takes some minutes) ..."
  cmake --preset release -DPSOURCE_TESTS=ON >/dev/null
  cmake --build build --target source-planetscale local-branch
fi
bin=${PSOURCE_BIN_DIR:-build}
connector=$bin/source-planetscale

work=$(mktemp -d)
branch_pid=
clean_up() {
  if [ -n "$branch_pid" ] && kill -0 "$branch_pid" 2>/dev/null; then
    kill "$branch_pid"
    wait "$branch_pid" || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT

step() { printf '\n== %s\n' "$*"; }

step "local-branch: keyspace commerce, 4 shards, 2 tables of 5,000 rows, 2,000 row changes a second"
mkfifo "$work/ready"
"$bin/local-branch" --keyspace commerce:4 --tables 2 --rows 5000 --write-rate 2000 --write-total 20000 \
  --grpc-port 0 --mysql-port 0 >"$work/ready" &
branch_pid=$!
# The first line comes when both ports answer; a pipe that ends without one means that it could not start.
IFS= read -r ready <"$work/ready" || { echo "local-branch did not start" >&2; exit 1; }
echo "$ready"

python3 - "$ready" >"$work/config.json" <<'PYTHON'
import json, sys
ports = json.loads(sys.argv[1])
print(json.dumps({
    "host": "127.0.0.1", "port": ports["grpc_port"], "mysql_port": ports["mysql_port"], "database": "commerce",
    "username": "", "password": "", "tls": {"mode": "disabled"},
}, indent=2))
PYTHON
echo "config.json:"
cat "$work/config.json"

# Shows what a command printed: how many messages of which kind, the first record, the last state, the statuses.
show() {
  python3 - "$1" <<'PYTHON'
import collections, json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    messages = [json.loads(line) for line in file]
def short(value):
    """JSON with its long texts cut."""
    if isinstance(value, dict):
        return {key: short(part) for key, part in value.items()}
    return value[:16] + "..." if isinstance(value, str) and len(value) > 32 else value
counts = collections.Counter(m["type"] for m in messages)
print("  messages:    " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
for m in messages:
    if m["type"] == "SPEC":
        print("  settings:    " + ", ".join(m["spec"]["connectionSpecification"]["properties"]))
    elif m["type"] == "CONNECTION_STATUS":
        print(f"  status:      {m['connectionStatus']['status']} {m['connectionStatus'].get('message') or ''}".rstrip())
    elif m["type"] == "CATALOG":
        for stream in m["catalog"]["streams"]:
            print(f"  stream:      {stream['namespace']}.{stream['name']}: " + ", ".join(stream["json_schema"]["properties"]))
records = [m["record"] for m in messages if m["type"] == "RECORD"]
if records:
    print("  first record:", json.dumps(short(records[0])))
    print("  last record: ", json.dumps(short(records[-1])))
deleted = sum(r["data"].get("_ab_cdc_deleted_at") is not None for r in records)
if records:
    print(f"  deleted rows: {deleted} of {len(records)} records")
states = [m["state"] for m in messages if m["type"] == "STATE"]
if states:
    print("  last state:  ", json.dumps(short(states[-1])))
for m in messages:
    if m["type"] == "TRACE" and m["trace"]["type"] == "STREAM_STATUS":
        status = m["trace"]["stream_status"]
        if status["status"] in ("COMPLETE", "INCOMPLETE"):
            print(f"  {status['stream_descriptor']['name']}:     {status['status']}")
PYTHON
}

step "source-planetscale spec"
"$connector" spec >"$work/spec.jsonl"
show "$work/spec.jsonl"

step "source-planetscale check --config config.json"
"$connector" check --config "$work/config.json" >"$work/check.jsonl"
show "$work/check.jsonl"
grep -q '"SUCCEEDED"' "$work/check.jsonl"

step "source-planetscale discover --config config.json"
"$connector" discover --config "$work/config.json" >"$work/discover.jsonl"
show "$work/discover.jsonl"

# What Airbyte does when you set up a connection: every stream, incremental.
python3 - "$work/discover.jsonl" >"$work/catalog.json" <<'PYTHON'
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    catalog = next(m["catalog"] for m in map(json.loads, file) if m["type"] == "CATALOG")
print(json.dumps({"streams": [{
    "stream": stream, "sync_mode": "incremental", "destination_sync_mode": "append_dedup",
    "cursor_field": stream["default_cursor_field"], "primary_key": stream["source_defined_primary_key"],
} for stream in catalog["streams"]]}))
PYTHON

step "source-planetscale read --config config.json --catalog catalog.json"
"$connector" read --config "$work/config.json" --catalog "$work/catalog.json" --progress never >"$work/first.jsonl"
show "$work/first.jsonl"

# What Airbyte does between two syncs: it keeps the last state of each stream.
python3 - "$work/first.jsonl" >"$work/state.json" <<'PYTHON'
import json, sys
last = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for message in map(json.loads, file):
        if message["type"] == "STATE":
            last[message["state"]["stream"]["stream_descriptor"]["name"]] = message["state"]
print(json.dumps(list(last.values())))
PYTHON

step "source-planetscale read --config config.json --catalog catalog.json --state state.json (what changed since)"
"$connector" read --config "$work/config.json" --catalog "$work/catalog.json" --state "$work/state.json" \
  --progress never >"$work/second.jsonl"
show "$work/second.jsonl"

printf '\nThat is all. To read your own branch, write a config.json like the one above with its host, keyspace and password.\n'
