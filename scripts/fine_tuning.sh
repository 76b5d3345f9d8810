#!/usr/bin/env bash
# Fine-tuning: a student without distillation, trained on the labels alone. The teacher gives only its shape.
# After teacher.sh: bash scripts/fine_tuning.sh RTE [any flag of scripts/run_baseline.py]
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"

student scripts/run_baseline.py --method fine-tuning "$@"
