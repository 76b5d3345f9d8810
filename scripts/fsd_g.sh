#!/usr/bin/env bash
# FSD_G: L_KD + BETA · L_G, the structure between examples and the teacher memory.
# After teacher.sh and memory.sh: bash scripts/fsd_g.sh RTE [any flag of run_glue_global.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
default BETA "$global_weight"
default GAMMA_M "$distance_weight"

distil run_glue_global.py --teacher_memory_path "$MEMORY" --beta "$BETA" --gamma_m "$GAMMA_M" "$@"
