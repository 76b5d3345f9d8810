#!/usr/bin/env bash
# The teacher: a pretrained BERT fine-tuned on the task.
# First of all: bash scripts/teacher.sh RTE [any flag of scripts/finetune_teacher.py]
#
# Epochs and learning rates are the paper's (section 4).
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
default EPOCHS 3
case $TASK in
    STS-B | WNLI) default LEARNING_RATE 5e-5 ;;
    *) default LEARNING_RATE 2e-5 ;;
esac

run scripts/finetune_teacher.py "${common[@]}" --model_name_or_path "$BASE" --output_dir "$TEACHER" --do_eval \
    --results_file "$RESULTS" --num_train_epochs "$EPOCHS" --learning_rate "$LEARNING_RATE" "$@"
