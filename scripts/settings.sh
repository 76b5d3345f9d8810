# The settings that the experiment scripts share. Each script sources this file and then sets what is its own.
#
# The first argument is the task. All other arguments, such as --overwrite_output_dir, go to the Python program.
# Every setting, here and in the scripts, can come from the environment: BETA=5 SEED=1 bash scripts/fsd_i.sh RTE
# A relative path starts at the folder where you call the script. The default paths lie in the project's folder.

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

DATA=${DATA:-$PROJECT/glue}                                # scripts/download_glue.py writes it
BASE=${BASE:-bert-base-uncased}                            # the teacher starts from it, students copy from it
TEACHER=${TEACHER:-$PROJECT/experiments/$TASK/teacher}     # teacher.sh writes it, the others read it
MEMORY=${MEMORY:-$PROJECT/experiments/$TASK/memory}        # memory.sh writes it, fsd_g.sh and fsd_ilg.sh read it
RUNS=${RUNS:-$PROJECT/experiments/runs}                    # TensorBoard
RESULTS=${RESULTS:-$PROJECT/experiments/results.csv}       # one row for each finished run
SEED=${SEED:-42}

# Gives a setting its default. A setting that the environment changes becomes part of the student's folder name.
changes=
default() {
    local value=${!1:-$2}
    if [[ $value != "$2" ]]; then changes+=-$(printf %s "$1" | tr A-Z a-z)$value; fi
    printf -v "$1" %s "$value"
}
default BATCH_SIZE 32
default MAX_SEQ_LENGTH 128
default MASK_PADDING ""    # 1 leaves padding out of the structures; this is much faster on short texts

# The paper prints its grids but not the values that it chose. The values here and in the students' scripts are ours.
# The loss weights were chosen on a fifth of the training data of CoLA and STS-B, held out with scripts/hold_out.py,
# for students of 3 layers and width 384 (docs/reproduction.md). Those students did best at LEARNING_RATE=2e-4;
# 5e-5 is what BERT-base takes.
default ALPHA 0.5
default TEMPERATURE 5
default EPOCHS 4
default LEARNING_RATE 5e-5

if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$PROJECT/.venv/bin/python
    if [[ ! -x $PYTHON ]]; then PYTHON=python3; fi
fi

common=(
    --model_type bert --data_dir "$DATA" --task_name "$TASK" --do_lower_case --do_train --run_file "$RUNS"
    --per_gpu_train_batch_size "$BATCH_SIZE" --max_seq_length "$MAX_SEQ_LENGTH" --seed "$SEED"
)

padding=()
if [[ -n $MASK_PADDING ]]; then padding=(--mask_padding); fi

# Prints a program's command line, ready to be copied, and runs the program.
run() {
    printf '%q ' "$PYTHON" "$PROJECT/$1" "${@:2}"
    echo
    "$PYTHON" "$PROJECT/$1" "${@:2}"
}

# Runs a distillation: the flags that all methods share, then the flags of this method.
distil() {
    OUT=${OUT:-$PROJECT/experiments/$TASK/$NAME-$SEED$changes}
    run "$1" "${common[@]}" --model_name_or_path "$TEACHER" --output_dir "$OUT" \
        --student_model_type bert --student_model_name_or_path "$OUT" \
        --copy_teacher --model_name_or_path_for_copy "$BASE" --do_eval --results_file "$RESULTS" \
        --alpha "$ALPHA" --temperature "$TEMPERATURE" --num_train_epochs "$EPOCHS" --learning_rate "$LEARNING_RATE" \
        ${padding[@]+"${padding[@]}"} "${@:2}"
}
