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
# run_tests NAME BUILD CTEST ARGUMENTS... Outputs are kept whole in the results: the summary counts the cases inside each program.
run_tests() {
  ctest --test-dir "$2" --output-on-failure --no-tests=error --output-junit "$PWD/$results/$1.xml" \
    --test-output-size-passed 4000000 --test-output-size-failed 4000000 "${@:3}" || failed=1
  end_stage "$1 tests"
}
case " $parts " in *" unit "*) run_tests unit "$build" -LE e2e -j2 ;; esac
# They wait for one another most of the time: more of them than processors.
case " $parts " in *" e2e "*) run_tests e2e "$build" -L e2e -j4 ;; esac
# build_with PRESET TARGETS...: into build-PRESET. A build that fails counts as a failed test.
build_with() {
  local done=0
  if ! { cmake --preset "$1" -DPSOURCE_TESTS=ON && cmake --build "build-$1" --target "${@:2}"; }; then
    failed=1
    done=1
    echo "<testsuite><testcase name=\"$1_build\" status=\"fail\"/></testsuite>" > "$results/$1_build.xml"
  fi
  end_stage "$1 build"
  return $done
}
# The suite once more with AddressSanitizer and UBSan; what threads share, without CAF, with ThreadSanitizer.
run_sanitized() {
  if build_with asan all; then
    run_tests asan_unit build-asan -LE e2e -j2
    run_tests asan_e2e build-asan -L e2e -j4
  fi
  local threaded=(sync_session_test stdout_writer_test mysql_session_test mysql_server_test)
  threaded+=(clients_grpc_test local_branch_grpc_test local_branch_stream_test)
  build_with tsan "${threaded[@]}" && run_tests tsan build-tsan -R "^($(IFS='|'; echo "${threaded[*]}"))\$"
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
