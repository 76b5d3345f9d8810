#!/usr/bin/env bash
# FSD_I: L_KD + BETA · L_I, the structure inside each example.
# After teacher.sh: bash scripts/fsd_i.sh RTE [any flag of run_glue_intra_inter.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
default BETA 4    # ours; the paper tried 3, 4, 5 and 6, on STS-B also 10

distil run_glue_intra_inter.py --internal --beta "$BETA" "$@"
