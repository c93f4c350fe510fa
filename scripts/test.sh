#!/usr/bin/env bash
# Builds everything and runs every test. The last line is the sum, "N passed, N failed"; exit 0 only without a failure.
# Usage: scripts/test.sh [--no-setup] [--unit | --e2e | --sanitized | --fuzz]
set -uo pipefail
cd "$(dirname "$0")/.."

setup=yes
parts="unit e2e sanitized fuzz"
for argument in "$@"; do
  case "$argument" in
    --no-setup) setup=no ;;
    --unit) parts=unit ;;
    --e2e) parts=e2e ;;
    --sanitized) parts=sanitized ;;
    --fuzz) parts=fuzz ;;
    *) echo "test.sh: unknown argument '$argument' (known: --no-setup, --unit, --e2e, --sanitized, --fuzz)" >&2; exit 2 ;;
  esac
done

build=build
results="$build/test-results"
stage_started=$SECONDS
times=()
end_stage() {
  times+=("$1 $((SECONDS - stage_started)) s")
  stage_started=$SECONDS
}
give_up() {
  end_stage "$1"
  echo "Times: $(IFS=,; echo "${times[*]}" | sed 's/,/, /g')"
  echo "The stage '$1' failed; no test was run."
  echo "0 passed, 1 failed"
  exit 1
}

if [ "$setup" = yes ]; then
  bash scripts/setup.sh --tests || give_up setup
  end_stage setup
fi
cmake --preset release -DPSOURCE_TESTS=ON -DPSOURCE_BENCH=ON || give_up configure
end_stage configure
cmake --build "$build" || give_up build
end_stage build

rm -rf "$results"
mkdir -p "$results"
failed=0
# Outputs are kept whole in the results: the summary counts the cases inside each program.
run_tests() {
  ctest --test-dir "$build" --output-on-failure --no-tests=error --output-junit "test-results/$1.xml" \
    --test-output-size-passed 4000000 --test-output-size-failed 4000000 "${@:2}" || failed=1
  end_stage "$1 tests"
}
case " $parts " in *" unit "*) run_tests unit -LE e2e -j2 ;; esac
case " $parts " in *" e2e "*) run_tests e2e -L e2e ;; esac
# sanitized NAME PRESET TARGETS... -- CTEST ARGUMENTS...: builds with a sanitizer and runs.
sanitized() {
  local name=$1 preset=$2 targets=()
  shift 2
  while [ "$1" != -- ]; do targets+=("$1"); shift; done
  shift
  if ! { cmake --preset "$preset" -DPSOURCE_TESTS=ON && cmake --build "build-$preset" --target "${targets[@]}"; }; then
    failed=1
    echo "<testsuite><testcase name=\"${preset}_build\" status=\"fail\"/></testsuite>" > "$results/$name.xml"
    end_stage "$preset build"
    return
  fi
  end_stage "$preset build"
  ctest --test-dir "build-$preset" --output-on-failure --no-tests=error --output-junit "$PWD/$results/$name.xml" \
    --test-output-size-passed 4000000 --test-output-size-failed 4000000 "$@" || failed=1
  end_stage "$name tests"
}
# The suite once more with AddressSanitizer and UBSan; what threads share, without CAF, with ThreadSanitizer.
run_sanitized() {
  sanitized asan_unit asan all -- -LE e2e -j2
  sanitized asan_e2e asan all -- -R '^e2e_(spec|check|discover|sync|reshard)$'
  local threaded=(stdout_writer_test mysql_session_test mysql_server_test)
  threaded+=(clients_grpc_test local_branch_grpc_test local_branch_stream_test)
  sanitized tsan tsan "${threaded[@]}" -- -R "^($(IFS='|'; echo "${threaded[*]}"))\$"
}
case " $parts " in *" sanitized "*) run_sanitized ;; esac
case " $parts " in *" fuzz "*)
  bash scripts/fuzz.sh --junit "$results/fuzz.xml" 5 || failed=1
  end_stage fuzz
  ;;
esac

echo
echo "Times: $(IFS=,; echo "${times[*]}" | sed 's/,/, /g')"
# Prints the failed cases and, last, the sum; fails when a case failed or nothing was run.
python3 tests/summary.py "$results"/*.xml || failed=1
exit "$failed"
