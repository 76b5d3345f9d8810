#!/usr/bin/env bash
# FSD_ILG: L_KD + BETA · (GAMMA_I · L_I + GAMMA_L · L_L + GAMMA_G · L_G).
# After teacher.sh and memory.sh: bash scripts/fsd_ilg.sh RTE [any flag of run_glue_all.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
# The paper has BETA 1. It tried 0.1, 1 and the BETA of fsd_i.sh and fsd_l.sh as GAMMA_I and GAMMA_L, and 1e-7 to 1 as
# GAMMA_G. The choice among these is ours.
default BETA 1
default GAMMA_I 1
default GAMMA_L 1
default GAMMA_G "$global_weight"
default GAMMA_M "$distance_weight"

distil run_glue_all.py --teacher_memory_path "$MEMORY" --beta "$BETA" \
    --gamma_i "$GAMMA_I" --gamma_l "$GAMMA_L" --gamma_g "$GAMMA_G" --gamma_m "$GAMMA_M" "$@"
