#!/usr/bin/env bash
# Trains and compares every method of the paper and its baselines on a small built-in corpus, in a few minutes.
#
#     bash scripts/quickstart.sh
#     TASK=RTE PYTHON=python3.12 bash scripts/quickstart.sh       another of the nine tasks, another interpreter
#
# It makes the environment, a corpus and a small random BERT. Then it runs the experiment scripts: the teacher, the
# memory, and one student for each method. All files go to quickstart/, and each run writes them anew.
# The scores show that the programs work. They say nothing about real language. On CoLA, the paper's weight of the global
# structure is so small that FSD_G is nearly KD.
set -euo pipefail

SCRIPTS=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$SCRIPTS/environment.sh"

TASK=${TASK:-CoLA}
FOLDER=$PROJECT/quickstart

export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # more threads gain little on models this small
export DATA=$FOLDER/glue BASE=$FOLDER/bert TEACHER=$FOLDER/$TASK/teacher MEMORY=$FOLDER/$TASK/memory
export RUNS=$FOLDER/runs RESULTS=$FOLDER/$TASK/results.csv
export LEARNING_RATE=5e-4 MAX_SEQ_LENGTH=40 MASK_PADDING=1
flags=(--overwrite_output_dir --per_gpu_eval_batch_size 100 --logging_steps 10)
start=$SECONDS

"$PYTHON" "$SCRIPTS/make_toy_glue.py" --output_dir "$DATA" --tasks "$TASK"
"$PYTHON" "$SCRIPTS/make_small_bert.py" --vocab "$DATA/vocab.txt" --output_dir "$BASE" \
    --num_hidden_layers 4 --hidden_size 128 --num_attention_heads 2 --intermediate_size 512 --max_position_embeddings 64
rm -f -- "$RESULTS"
EPOCHS=8 bash "$SCRIPTS/teacher.sh" "$TASK" "${flags[@]}" --warmup_steps 50
K=50 bash "$SCRIPTS/memory.sh" "$TASK" --overwrite_output_dir
for method in fine_tuning kd pkd minilm rkd fsd_i fsd_l fsd_g fsd_il fsd_ilg; do
    EPOCHS=4 OUT=$FOLDER/$TASK/$method bash "$SCRIPTS/$method.sh" "$TASK" "${flags[@]}" --warmup_steps 50 --skip_teacher_eval
done
"$PYTHON" "$SCRIPTS/quickstart_report.py" --results_file "$RESULTS" --run_file "$RUNS" --data_dir "$DATA" \
    --figure "$FOLDER/$TASK/comparison.png"
echo "all in $((SECONDS - start)) s; the curves: ${PYTHON%/*}/tensorboard --logdir $FOLDER/runs"
