#!/usr/bin/env bash
# RKD: L_KD + RKD_DISTANCE · the distances between examples + RKD_ANGLE · the angles between them.
# After teacher.sh: bash scripts/rkd.sh RTE [any flag of scripts/run_baseline.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
# Ours, from the paper's grids: RKD_DISTANCE 100, 1000, 10000; RKD_ANGLE 200, 2000, 20000.
default RKD_DISTANCE 100
default RKD_ANGLE 200

distil scripts/run_baseline.py --method rkd --rkd_distance "$RKD_DISTANCE" --rkd_angle "$RKD_ANGLE" "$@"
