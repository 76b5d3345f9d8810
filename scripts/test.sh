#!/usr/bin/env bash
# The tests: makes the environment if it is not there, then runs pytest. Its exit status is pytest's.
#
#     bash scripts/test.sh [any argument of pytest]        PYTHON=python3.12 bash scripts/test.sh
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

cd -- "$PROJECT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # more threads gain nothing on models this small
exec "$PYTHON" -m pytest "$@"
