#!/usr/bin/env bash
# Runs the tests. It makes the environment first if there is none. The exit status is that of pytest.
#
#     bash scripts/test.sh [any argument of pytest]
#     PYTHON=python3.12 bash scripts/test.sh                      another interpreter
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

cd -- "$PROJECT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # more threads gain nothing on models this small
exec "$PYTHON" -m pytest "$@"
