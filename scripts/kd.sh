#!/usr/bin/env bash
# KD, the baseline: L_KD = ALPHA · task loss + (1 − ALPHA) · dark knowledge.
# After teacher.sh: bash scripts/kd.sh RTE [any flag of run_glue_intra_inter.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"

distil run_glue_intra_inter.py --beta 0 "$@"
