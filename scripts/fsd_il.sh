#!/usr/bin/env bash
# FSD_IL: L_KD + BETA · (GAMMA_I · L_I + GAMMA_L · L_L).
# After teacher.sh: bash scripts/fsd_il.sh RTE [any flag of run_glue_all.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
# The paper has BETA 1 and takes shares from 0.1 to 0.9 of the BETA of fsd_i.sh and fsd_l.sh; one half is ours.
default BETA 1
default GAMMA_I 2
default GAMMA_L 2

distil run_glue_all.py --beta "$BETA" --gamma_i "$GAMMA_I" --gamma_l "$GAMMA_L" --gamma_g 0.0 "$@"
