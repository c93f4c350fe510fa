#!/usr/bin/env bash
# Installs what is missing for a build (Debian 12 packages) and, with --tests, for the end-to-end tests (.venv).
# Usage: scripts/setup.sh [--tests]
set -euo pipefail
cd "$(dirname "$0")/.."

with_tests=no
for argument in "$@"; do
  case "$argument" in
    --tests) with_tests=yes ;;
    *) echo "setup.sh: unknown argument '$argument' (known: --tests)" >&2; exit 2 ;;
  esac
done

packages=(
  g++ cmake ninja-build ccache pkg-config
  libcaf-dev libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  rapidjson-dev default-libmysqlclient-dev libcxxopts-dev doctest-dev libexpected-dev zlib1g-dev libssl-dev
  ca-certificates python3
)
if [ "$with_tests" = yes ]; then
  packages+=(openssl python3-venv python3-pip clang-14 libclang-rt-14-dev llvm-14 valgrind libbenchmark-dev)
fi

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: this is no Debian system. Install the counterparts of these packages yourself: ${packages[*]}" >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
    missing+=("$package")
  fi
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "Installing ${missing[*]}"
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup.sh: install as root: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if [ "$with_tests" = yes ]; then
  # The stamp holds what was installed, so a changed list makes the environment anew.
  requirements=tests/e2e/requirements.txt
  if ! cmp -s "$requirements" .venv/installed-requirements.txt; then
    # PyAirbyte needs Python 3.10 to 3.12.
    python=
    for candidate in python3 /usr/bin/python3 python3.11 python3.12 python3.10; do
      if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        python=$candidate
        break
      fi
    done
    if [ -z "$python" ]; then
      echo "setup.sh: the end-to-end tests need Python 3.10, 3.11 or 3.12" >&2
      exit 1
    fi
    echo "Making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" .venv/installed-requirements.txt
  fi
fi
