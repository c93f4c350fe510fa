#!/usr/bin/env bash
# Writes the golden transcripts anew from the programs in build; read the difference before you commit it.
set -euo pipefail
cd "$(dirname "$0")/../.."
PSOURCE_UPDATE_GOLDEN=1 .venv/bin/python -m unittest tests.e2e.test_golden
git --no-pager diff --stat -- tests/golden
