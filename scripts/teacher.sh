#!/usr/bin/env bash
# The teacher: a pretrained BERT fine-tuned on the task.
# First of all: bash scripts/teacher.sh RTE [any flag of scripts/finetune_teacher.py]
#
# The paper does not print its values. These are ours. On a fifth of STS-B's training data, held out with
# scripts/hold_out.py, four epochs were better than two.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"

run scripts/finetune_teacher.py "${common[@]}" --model_name_or_path "$BASE" --output_dir "$TEACHER" --do_eval \
    --results_file "$RESULTS" --num_train_epochs "$EPOCHS" --learning_rate "$LEARNING_RATE" "$@"
