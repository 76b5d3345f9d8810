#!/usr/bin/env bash
# Runs the tests. It makes the environment first if there is none. The exit status is that of pytest.
#
#     bash scripts/test.sh [any argument of pytest]
#     PYTHON=python3.12 bash scripts/test.sh                      another interpreter
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# The tests of sentencepiece files make such files, which nothing else of the project needs.
"$PYTHON" -c 'import sentencepiece' 2>/dev/null || "$PYTHON" -m pip --disable-pip-version-check install sentencepiece==0.2.3

cd -- "$PROJECT"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # more threads gain nothing on models this small
exec "$PYTHON" -m pytest "$@"
