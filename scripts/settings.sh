# The settings that the experiment scripts share. Each script sources this file and then sets what is its own.
#
# The first argument is the task. All other arguments, such as --overwrite_output_dir, go to the Python program.
# Every setting, here and in the scripts, can come from the environment: BETA=5 SEED=1 bash scripts/fsd_i.sh RTE
# A relative path starts at the folder where you call the script. The default paths lie in the project's folder.

PROJECT=$(CDPATH= cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
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

# The paper tells near which weights FSD_G was best on each task (section 4). From there come BETA of fsd_g.sh, GAMMA_G of
# fsd_ilg.sh and GAMMA_M of both. Where it names the range 0.1 to 0.9, 0.1 is ours.
case $TASK in
    WNLI | RTE) global_weight=0.1 distance_weight=1e-6 ;;
    STS-B) global_weight=1e-7 distance_weight=0.1 ;;
    SST-2) global_weight=1e-7 distance_weight=1e-4 ;;
    QQP) global_weight=1e-7 distance_weight=1e-2 ;;
    MNLI) global_weight=1e-6 distance_weight=1e-6 ;;
    CoLA | MRPC | QNLI) global_weight=1e-6 distance_weight=0.1 ;;
esac

if [[ -z ${PYTHON:-} ]]; then
    PYTHON=$PROJECT/.venv/bin/python
    if [[ ! -x $PYTHON ]]; then PYTHON=python3; fi
fi
if ! "$PYTHON" -c 'from importlib.util import find_spec; raise SystemExit(not find_spec("torch"))' > /dev/null 2>&1; then
    echo "$PYTHON does not run or has no torch: install as the README says, or name the environment's interpreter with PYTHON" >&2
    exit 2
fi

common=(
    --data_dir "$DATA" --task_name "$TASK" --do_lower_case --do_train --run_file "$RUNS"
    --per_gpu_train_batch_size "$BATCH_SIZE" --max_seq_length "$MAX_SEQ_LENGTH" --seed "$SEED"
)

padding=()
case $MASK_PADDING in
    "") ;;
    1) padding=(--mask_padding) ;;
    *) echo "MASK_PADDING is $MASK_PADDING: set it to 1, or leave it empty" >&2; exit 2 ;;
esac

# Prints a program's command line, ready to be copied, and runs the program.
run() {
    printf '%q ' "$PYTHON" "$PROJECT/$1" "${@:2}"
    echo
    "$PYTHON" "$PROJECT/$1" "${@:2}"
}

# Trains a student: the flags that all methods share, then those of this method. The paper chose the epochs and the
# learning rate from grids and prints the grids only, so these two values are ours.
student() {
    default EPOCHS 4
    default LEARNING_RATE 5e-5
    OUT=${OUT:-$PROJECT/experiments/$TASK/$NAME-$SEED$changes}
    run "$1" "${common[@]}" --model_name_or_path "$TEACHER" --output_dir "$OUT" \
        --copy_teacher --model_name_or_path_for_copy "$BASE" --do_eval --results_file "$RESULTS" \
        --num_train_epochs "$EPOCHS" --learning_rate "$LEARNING_RATE" ${padding[@]+"${padding[@]}"} "${@:2}"
}

# Trains a student with L_KD. The values are ours, from the paper's grids: ALPHA 0.2, 0.5, 0.7; TEMPERATURE 5, 10, 20.
distil() {
    default ALPHA 0.5
    default TEMPERATURE 5
    student "$1" --alpha "$ALPHA" --temperature "$TEMPERATURE" "${@:2}"
}
