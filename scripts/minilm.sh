#!/usr/bin/env bash
# MiniLM: L_KD + BETA · (attention + value relations) of the last layers.
# After teacher.sh: bash scripts/minilm.sh RTE [any flag of scripts/run_baseline.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
default BETA 1    # ours; the paper prints no value and no grid

distil scripts/run_baseline.py --method minilm --beta "$BETA" "$@"
