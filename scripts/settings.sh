# What the experiment scripts beside it share. Each sources it after its own settings, with its own command line:
# the first argument is the task, and any others go to the Python program as they are. A folder may be relative to
# where the script is called from; the defaults lie in the project.

PROJECT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
NAME=$(basename -- "$0" .sh)

shopt -s nocasematch
for TASK in CoLA SST-2 MRPC STS-B QQP MNLI QNLI RTE WNLI ""; do
    if [[ $TASK == "${1:-}" ]]; then break; fi
done
shopt -u nocasematch
if [[ -z $TASK ]]; then
    echo "usage: bash scripts/$NAME.sh CoLA|SST-2|MRPC|STS-B|QQP|MNLI|QNLI|RTE|WNLI [more flags]" >&2
    exit 2
fi
shift

DATA=${DATA:-$PROJECT/glue}                                # as scripts/download_glue.py writes it
BASE=${BASE:-bert-base-uncased}                            # pretrained: the teacher's start, and copied into students
TEACHER=${TEACHER:-$PROJECT/experiments/$TASK/teacher}     # teacher.sh writes it, the others read it
MEMORY=${MEMORY:-$PROJECT/experiments/$TASK/memory}        # memory.sh writes it, fsd_g.sh and fsd_ilg.sh read it
RUNS=${RUNS:-$PROJECT/experiments/runs}                    # TensorBoard
RESULTS=${RESULTS:-$PROJECT/experiments/results.csv}       # one row a finished run
BATCH_SIZE=${BATCH_SIZE:-32}
MAX_SEQ_LENGTH=${MAX_SEQ_LENGTH:-128}
SEED=${SEED:-42}
OUT=${OUT:-$PROJECT/experiments/$TASK/$NAME-$SEED}         # the student
if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$PROJECT/.venv/bin/python
    if [[ ! -x $PYTHON ]]; then PYTHON=python3; fi
fi

common=(
    --model_type bert --data_dir "$DATA" --task_name "$TASK" --do_lower_case --do_train --run_file "$RUNS"
    --per_gpu_train_batch_size "$BATCH_SIZE" --max_seq_length "$MAX_SEQ_LENGTH" --seed "$SEED"
)
padding=()
if [[ -n ${MASK_PADDING:-} ]]; then padding=(--mask_padding); fi

# Shows a program's command line, so that it can be copied, and runs it.
run() {
    printf '%q ' "$PYTHON" "$PROJECT/$1" "${@:2}"
    echo
    "$PYTHON" "$PROJECT/$1" "${@:2}"
}

# The same for a distillation: what all methods share, then what is this method's own.
distil() {
    run "$1" "${common[@]}" --model_name_or_path "$TEACHER" --output_dir "$OUT" \
        --student_model_type bert --student_model_name_or_path "$OUT" \
        --copy_teacher --model_name_or_path_for_copy "$BASE" --do_eval --results_file "$RESULTS" \
        --alpha "$ALPHA" --temperature "$TEMPERATURE" --num_train_epochs "$EPOCHS" --learning_rate "$LEARNING_RATE" \
        "${padding[@]}" "${@:2}"
}
