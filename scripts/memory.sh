#!/usr/bin/env bash
# The teacher memory, which FSD_G and FSD_ILG relate examples to: K centroids of the teacher's features.
#
#     bash scripts/memory.sh RTE [any flag of train_memory.py, such as --overwrite_output_dir]
#
# After teacher.sh, with the MAX_SEQ_LENGTH and MASK_PADDING that the students will have. Each setting here and in
# settings.sh can come from the environment (K=50 SEED=1 bash …). K is the authors': 100, and 300 for MNLI and QQP.
# So is PASSES; on RTE's training data these three reach what k-means run to convergence does (README, Results).
set -euo pipefail

PASSES=${PASSES:-3}

source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"

case $TASK in
    MNLI | QQP) K=${K:-300} ;;
    *) K=${K:-100} ;;
esac

run train_memory.py "${common[@]}" --model_name_or_path "$TEACHER" --output_dir "$MEMORY" \
    --num_centroid "$K" --memory_num_train_epochs "$PASSES" "${padding[@]}" "$@"
