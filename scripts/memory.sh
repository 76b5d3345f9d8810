#!/usr/bin/env bash
# The teacher memory for FSD_G and FSD_ILG: K centroids of the teacher's features.
# After teacher.sh: bash scripts/memory.sh RTE [any flag of train_memory.py]
#
# The students must have the same MAX_SEQ_LENGTH and MASK_PADDING. K and PASSES are the authors' values.
set -euo pipefail

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"

PASSES=${PASSES:-3}
case $TASK in
    MNLI | QQP) K=${K:-300} ;;
    *) K=${K:-100} ;;
esac

run train_memory.py "${common[@]}" --model_name_or_path "$TEACHER" --output_dir "$MEMORY" \
    --num_centroid "$K" --memory_num_train_epochs "$PASSES" ${padding[@]+"${padding[@]}"} "$@"
