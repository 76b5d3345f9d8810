#!/usr/bin/env bash
# FSD_ILG: L_KD + BETA · (GAMMA_I · L_I + GAMMA_L · L_L + GAMMA_G · L_G).
# After teacher.sh and memory.sh: bash scripts/fsd_ilg.sh RTE [any flag of run_glue_all.py]
set -euo pipefail

BETA=${BETA:-3}
GAMMA_I=${GAMMA_I:-1}
GAMMA_L=${GAMMA_L:-1}
GAMMA_G=${GAMMA_G:-0.1}
GAMMA_M=${GAMMA_M:-0.0001}

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"

distil run_glue_all.py --teacher_memory_path "$MEMORY" --beta "$BETA" \
    --gamma_i "$GAMMA_I" --gamma_l "$GAMMA_L" --gamma_g "$GAMMA_G" --gamma_m "$GAMMA_M" "$@"
