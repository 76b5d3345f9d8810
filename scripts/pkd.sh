#!/usr/bin/env bash
# PKD: L_KD + BETA · the squared error between the normalised [CLS] states of all layers but the last.
# After teacher.sh: bash scripts/pkd.sh RTE [any flag of scripts/run_baseline.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
default BETA 100    # ours; PKD's own paper tried 10, 100, 500 and 1000

distil scripts/run_baseline.py --method pkd --beta "$BETA" "$@"
