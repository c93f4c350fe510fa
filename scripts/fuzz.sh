#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for some seconds, after all of its inputs. The last line is the sum,
# "N passed, N failed"; exit 0 only without a finding. What it means: docs/fuzzing.md.
# Usage: scripts/fuzz.sh [--junit FILE] [--jobs N (2)] [SECONDS_PER_TARGET (60)] [TARGET...]
set -uo pipefail
cd "$(dirname "$0")/.."

junit=
jobs=2
seconds=60
targets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --junit) junit=${2:?"fuzz.sh: --junit needs a file"}; shift ;;
    --jobs) jobs=${2:?"fuzz.sh: --jobs needs a number"}; shift ;;
    -*) echo "fuzz.sh: unknown argument '$1' (known: --junit FILE, --jobs N, SECONDS_PER_TARGET, TARGET...)" >&2; exit 2 ;;
    [0-9]*) seconds=$1 ;;
    *)
      [ -f "fuzz/$1.cpp" ] || { echo "fuzz.sh: there is no target '$1'" >&2; exit 2; }
      targets+=("$1")
      ;;
  esac
  shift
done
if [ ${#targets[@]} -eq 0 ]; then
  for source in fuzz/*.cpp; do
    name=$(basename "$source" .cpp)
    [ "$name" = replay_main ] || targets+=("$name")
  done
fi

export build=build-fuzz seconds
results="$build/results"
export results
mkdir -p "$build/logs" "$build/findings"
rm -rf "$results"
mkdir -p "$results"

# The results in the form that tests/summary.py adds up.
write_junit() {
  [ -n "$junit" ] || return 0
  {
    echo '<testsuite name="fuzz">'
    for result in "$results"/*; do
      [ -f "$result" ] || continue
      echo "<testcase name=\"fuzz_$(basename "$result")\" status=\"$(cat "$result")\"/>"
    done
    echo '</testsuite>'
  } > "$junit"
}
give_up() {
  echo "fuzz.sh: $1" >&2
  echo fail > "$results/build"
  write_junit
  echo "0 passed, 1 failed"
  exit 1
}

command -v clang++-14 > /dev/null ||
  give_up "clang++-14 is missing; scripts/setup.sh --tests installs it (packages clang-14 and libclang-rt-14-dev)"
cmake --preset fuzz > "$build/logs/configure.log" 2>&1 ||
  { cat "$build/logs/configure.log"; give_up "the preset 'fuzz' cannot be configured"; }
programs=("${targets[@]/#/fuzz_}")
cmake --build "$build" --target "${programs[@]}" > "$build/logs/build.log" 2>&1 ||
  { cat "$build/logs/build.log"; give_up "the fuzz targets cannot be built"; }

run_target() {
  local name=$1 dictionary=$1 max_len=4096 log="$build/logs/$1.log"
  case "$name" in
    wire_decoder) dictionary=wire ;;
    event_assembler | stream_session) dictionary=wire max_len=16384 ;;
    cursor | gtid_set) dictionary=gtid ;;
    json_string | json_text) dictionary=json ;;
    mysql_answers | mysql_packets) dictionary=sql ;;
    record_encoder | wkb) dictionary=values ;;
  esac
  mkdir -p "$build/corpus/$name"
  # New inputs go to the first folder, which later runs begin with; the second one is version control's.
  if "$build/bin/fuzz_$name" "$build/corpus/$name" "fuzz/corpus/$name" -dict="fuzz/dictionaries/$dictionary.dict" \
    -max_total_time="$seconds" -max_len="$max_len" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$name-" > "$log" 2>&1; then
    echo run > "$results/$name"
    printf '%-16s %9s executions, coverage %s\n' "$name" \
      "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
      "$(sed -n 's/.*cov: \([0-9]*\) ft: \([0-9]*\).*/\1 edges, \2 features/p' "$log" | tail -1)"
  else
    echo fail > "$results/$name"
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -1)
    echo "$name: FOUND something:"
    grep -v '^NEW_FUNC\|^#[0-9]*\s\(NEW\|REDUCE\|pulse\|RELOAD\|INITED\|READ\)\|^"' "$log" | grep -v '^Dictionary\|^INFO' | head -40
    if [ -n "$input" ]; then
      echo "  again: $build/bin/fuzz_$name $input"
      echo "  keep it, once it is mended: cp $input fuzz/corpus/$name/"
    fi
  fi
}
export -f run_target
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I NAME bash -c 'run_target NAME'

write_junit
failed=$(grep -lx fail "$results"/* | wc -l)
passed=$(grep -lx run "$results"/* | wc -l)
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -eq ${#targets[@]} ]
