#!/usr/bin/env bash
# Runs all tests, in a process for each core but at most four, or what the arguments name, in one process. It makes the
# environment first if there is none. The exit status is that of pytest.
#
#     bash scripts/test.sh [any argument of pytest]
#     PYTHON=python3.12 bash scripts/test.sh                      another interpreter
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# The tests of download_glue.py --source hub read parquet files, which nothing else of the project needs.
"$PYTHON" -c 'import pyarrow' 2>/dev/null || "$PYTHON" -m pip --disable-pip-version-check install pyarrow==26.0.1

cd -- "$PROJECT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # more threads gain nothing on models this small
if (($# == 0)); then set -- --numprocesses auto --maxprocesses 4 --dist loadscope; fi
exec "$PYTHON" -m pytest "$@"
