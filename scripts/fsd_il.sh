#!/usr/bin/env bash
# FSD_IL: L_KD + BETA · (GAMMA_I · L_I + GAMMA_L · L_L).
# After teacher.sh: bash scripts/fsd_il.sh RTE [any flag of run_glue_all.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
default BETA 3
default GAMMA_I 1
default GAMMA_L 1

distil run_glue_all.py --beta "$BETA" --gamma_i "$GAMMA_I" --gamma_l "$GAMMA_L" --gamma_g 0.0 "$@"
