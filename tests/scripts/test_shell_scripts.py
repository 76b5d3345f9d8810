"""The shell scripts: each experiment through its real command line, and the environment that is chosen."""

import csv
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from safetensors import safe_open

STUDENTS = {  # script → method
    "fine_tuning": "fine-tuning", "kd": "KD", "pkd": "PKD", "rkd": "RKD", "minilm": "MiniLM", "fsd_i": "FSD_I", "fsd_l": "FSD_L",
    "fsd_g": "FSD_G", "fsd_il": "FSD_IL", "fsd_ilg": "FSD_ILG",
}
TASKS = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI")


def bash(script, *arguments, **environment):
    """A script's end: (exit status, stdout, stderr); called from another folder than the project's."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    ended = subprocess.run(
        ["bash", str(ROOT / "scripts" / script), *map(str, arguments)], cwd="/", capture_output=True, text=True,
        env=keep | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | {name: str(value) for name, value in environment.items()},
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def lab(toy_glue, tmp_path_factory):
    """Settings of small runs on the toy corpus, all below a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("lab") / "my experiments"
    bert = folder / "small bert"
    subprocess.run(
        [sys.executable, ROOT / "scripts/make_small_bert.py", "--vocab", toy_glue / "vocab.txt", "--output_dir", bert,
         "--hidden_size", "16", "--intermediate_size", "32", "--num_hidden_layers", "4", "--max_position_embeddings", "32"],
        check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
    )
    return {
        "PYTHON": sys.executable, "DATA": toy_glue, "BASE": bert, "TEACHER": folder / "the teacher",
        "MEMORY": folder / "the memory", "RUNS": folder / "runs", "RESULTS": folder / "all results.csv",
        "MAX_SEQ_LENGTH": 32, "BATCH_SIZE": 8, "K": 4, "MASK_PADDING": 1,
    }


@pytest.fixture(scope="module")
def teacher_and_memory(lab):
    status, _, errors = bash("teacher.sh", "rte", "--max_steps", 2, **lab)
    assert status == 0, errors
    status, _, errors = bash("memory.sh", "RTE", "--max_train_samples", 40, **lab)
    assert status == 0, errors


def test_teacher_and_memory(lab, teacher_and_memory):
    assert json.loads((lab["TEACHER"] / "config.json").read_text())["num_hidden_layers"] == 4
    assert "acc" in (lab["TEACHER"] / "eval_results.txt").read_text()
    with safe_open(lab["MEMORY"] / "memory.safetensors", "pt") as memory:
        assert memory.get_slice("centroids").get_shape() == [4, 32, 16]


@pytest.mark.parametrize("name", STUDENTS)
def test_student(lab, teacher_and_memory, name, tmp_path):
    out = tmp_path / f"a student of {name}"
    status, printed, errors = bash(f"{name}.sh", "RTE", "--max_steps", 2, SEED=7, OUT=out, **lab)
    assert status == 0, errors
    saved = json.loads((out / "training_args.json").read_text())
    assert saved["method"] == STUDENTS[name]
    assert (saved["steps"], saved["arguments"]["seed"], saved["arguments"]["mask_padding"]) == (2, 7, True)
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 2
    assert (out / "student_memory.safetensors").exists() == (name in ("fsd_g", "fsd_ilg"))
    assert "acc" in (out / "eval_results.txt").read_text()
    assert list(lab["RUNS"].glob(f"RTE-{STUDENTS[name]}-*-7-*"))
    assert "the\\ teacher" in printed  # the command line as it can be pasted
    with open(lab["RESULTS"], newline="") as file:
        place = os.path.relpath(os.path.realpath(out), os.path.realpath(lab["RESULTS"].parent))
        assert place in {row["output_dir"] for row in csv.DictReader(file)}


@pytest.mark.parametrize(("settings", "folder"), [
    ({}, "fsd_i-42"), ({"BETA": 5, "SEED": 1}, "fsd_i-1-beta5"), ({"BETA": 4}, "fsd_i-42"),
    ({"MASK_PADDING": 1, "LEARNING_RATE": "2e-4"}, "fsd_i-42-mask_padding1-learning_rate2e-4"),
])
def test_a_setting_that_is_changed_is_in_the_name_of_the_folder(settings, folder):
    status, printed, errors = bash("fsd_i.sh", "RTE", PYTHON="/bin/echo", **settings)
    assert status == 0, errors
    assert f"--output_dir {ROOT / 'experiments/RTE' / folder} --copy_teacher" in printed


def flags_of(script, task):
    """The flags of a script's command line, name → value, without running it."""
    status, printed, errors = bash(script, task, PYTHON="/bin/echo")
    assert status == 0, errors
    words = printed.splitlines()[-1].split()
    return {word[2:]: value for word, value in zip(words, [*words[1:], "--"], strict=True) if word.startswith("--")}


@pytest.mark.parametrize("task", TASKS)
def test_the_teacher_and_the_memory_have_the_settings_of_the_paper(task):
    teacher, memory = flags_of("teacher.sh", task), flags_of("memory.sh", task)
    rate = 5e-5 if task in ("STS-B", "WNLI") else 2e-5
    assert (int(teacher["num_train_epochs"]), float(teacher["learning_rate"])) == (3, rate)
    for flags in (teacher, memory):
        assert (flags["per_gpu_train_batch_size"], flags["max_seq_length"]) == ("32", "128")
    centroids = "300" if task in ("QQP", "MNLI") else "100"
    assert (memory["num_centroid"], memory["memory_num_train_epochs"]) == (centroids, "3")


GRIDS = {  # the paper's
    "kd": {"beta": {0}, "learning_rate": {1e-5, 2e-5, 5e-5}},
    "fsd_i": {"beta": {3, 4, 5, 6}, "learning_rate": {3e-5, 4e-5, 5e-5, 6e-5}},
    "fsd_l": {"beta": {3, 4, 5, 6}, "learning_rate": {3e-5, 4e-5, 5e-5, 6e-5}},
    "fsd_il": {"beta": {1}, "gamma_g": {0}},
    "fsd_ilg": {"beta": {1}, "gamma_i": {0.1, 1, 4}, "gamma_l": {0.1, 1, 4}},
    "rkd": {"rkd_distance": {100, 1000, 10000}, "rkd_angle": {200, 2000, 20000}},
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_student_has_values_of_the_paper_s_grid(name):
    flags = flags_of(f"{name}.sh", "RTE")
    assert flags["per_gpu_train_batch_size"] == "32" and flags["model_name_or_path_for_copy"] == "bert-base-uncased"
    grid = {"alpha": {0.2, 0.5, 0.7}, "temperature": {5, 10, 20}} | GRIDS[name]
    assert {flag: float(flags[flag]) for flag in grid if float(flags[flag]) not in grid[flag]} == {}


@pytest.mark.parametrize("task", TASKS)
def test_the_weights_of_the_global_structure_lie_where_the_paper_found_them(task):
    near = {"WNLI": (0.1, 1e-6), "RTE": (0.1, 1e-6), "MNLI": (1e-6, 1e-6), "SST-2": (1e-7, 1e-4), "QQP": (1e-7, 1e-2),
            "STS-B": (1e-7, 0.1), "CoLA": (1e-6, 0.1), "MRPC": (1e-6, 0.1), "QNLI": (1e-6, 0.1)}
    alone, together = flags_of("fsd_g.sh", task), flags_of("fsd_ilg.sh", task)
    assert (float(alone["beta"]), float(alone["gamma_m"])) == near[task]
    assert (float(together["gamma_g"]), float(together["gamma_m"])) == near[task]


def test_a_second_run_writes_over_nothing(lab, teacher_and_memory):
    before = (lab["TEACHER"] / "training_args.json").read_bytes()
    status, _, errors = bash("teacher.sh", "RTE", "--max_steps", 1, **lab)
    assert status == 2 and "--overwrite_output_dir" in errors.strip().splitlines()[-1]
    assert (lab["TEACHER"] / "training_args.json").read_bytes() == before


@pytest.mark.parametrize("name", ("teacher", "memory", *STUDENTS))
@pytest.mark.parametrize("arguments", ((), ("SQuAD",)))
def test_without_a_task_of_glue_there_is_one_usage_line(name, arguments):
    status, printed, errors = bash(f"{name}.sh", *arguments)
    assert (status, printed) == (2, "")
    assert errors.startswith(f"usage: bash scripts/{name}.sh CoLA|") and errors.count("\n") == 1


@pytest.mark.parametrize(("settings", "words"), [
    ({"PYTHON": "/nonexistent/python"}, "/nonexistent/python does not run or has no torch"),
    ({"PYTHON": "false"}, "false does not run or has no torch"),
    ({"PYTHON": "/bin/echo", "MASK_PADDING": 0}, "MASK_PADDING is 0: set it to 1, or leave it empty"),
])
def test_settings_that_cannot_work_are_one_line(settings, words):
    status, printed, errors = bash("kd.sh", "RTE", **settings)
    assert (status, printed) == (2, "") and errors.startswith(words) and errors.count("\n") == 1


@pytest.fixture
def slurm_array(tmp_path):
    """Call ``slurm_array(task, file)``: what Slurm does with one task of an array, in a folder with a space."""
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text('#!/usr/bin/env bash\nexec "$@"\n')
    srun.chmod(0o755)
    folder = tmp_path / "the project"
    folder.mkdir()

    def run(task, *arguments):
        return folder, bash("reproduce.sbatch", *arguments, PATH=f"{srun.parent}:{os.environ['PATH']}",
                            SLURM_SUBMIT_DIR=folder, **({"SLURM_ARRAY_TASK_ID": task} if task else {}))

    return run


def test_a_task_of_an_array_runs_its_own_line(slurm_array, tmp_path):
    cells = tmp_path / "the cells"
    cells.write_text("touch one\ntouch 'a b' && touch \"$(echo two)\"\nfalse && touch three\n")
    folder, ended = slurm_array(2, cells)
    assert ended == (0, "", "") and {path.name for path in folder.iterdir()} == {"a b", "two"}
    assert slurm_array(3, cells)[1][0] == 1


@pytest.mark.parametrize(("task", "arguments", "words"), [
    (9, ["/dev/null"], "no line 9"), (1, [], "usage"), (None, ["x"], "usage"),
])
def test_a_task_without_a_line_is_told(slurm_array, task, arguments, words):
    _, (status, printed, errors) = slurm_array(task, *arguments)
    assert status == 2 and printed == "" and words in errors and errors.count("\n") == 1


# An interpreter that makes environments and installs without doing either, and keeps a record of what it was asked.
PRETENDER = """#!/usr/bin/env bash
case "$1 ${2:-}" in
    "-c "*) echo VERSION; exit ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip") if [[ -e RECORD.fail ]]; then echo "no network" >&2; exit 1; fi ;;
esac
echo "$@" >>RECORD
"""


@pytest.fixture
def project(tmp_path):
    """A project with the real environment.sh, in a folder with a space in its name."""
    folder = tmp_path / "a project"
    (folder / "scripts").mkdir(parents=True)
    for name in ("scripts/environment.sh", "requirements.txt", "pyproject.toml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "scripts/show.sh").write_text(
        'set -euo pipefail\nsource "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"\necho "$PYTHON"\n'
    )
    return folder


@pytest.fixture
def environment_of(project, tmp_path):
    """Call ``environment_of(version)`` to have an interpreter of that version make or find the environment.

    Returns its folder's name, the exit status, the last line on stderr, and what the interpreter did.
    """
    record = tmp_path / "record"

    def run(version, path=tmp_path):
        python = path / f"python{version}"
        python.write_text(PRETENDER.replace("VERSION", version).replace("RECORD", str(record)))
        python.chmod(0o755)
        record.write_text("")
        ended = subprocess.run(
            ["bash", str(project / "scripts/show.sh")], cwd="/", capture_output=True, text=True,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": str(python)},
        )
        chosen = ended.stdout.splitlines()[-1].split("/")[-3] if ended.returncode == 0 else ""
        return chosen, ended.returncode, ended.stderr, record.read_text().splitlines()

    return run


def installed(steps):
    return [step.split("install ")[1] for step in steps if " install " in step]


def test_the_environment_is_made_once(environment_of, project):
    chosen, status, errors, steps = environment_of("3.11")
    assert (chosen, status, errors) == (".venv", 0, "")
    assert steps[0] == f"-m venv {project}/.venv"
    torch, requirements, this = installed(steps)
    assert torch == "torch==2.13.0"
    assert requirements == f"--requirement {project}/requirements.txt"
    assert this == f"--editable {project}"
    assert environment_of("3.11") == (".venv", 0, "", [])


def test_changed_pins_are_installed_into_the_environment_that_is_there(environment_of, project):
    environment_of("3.11")
    with open(project / "requirements.txt", "a") as file:
        file.write("rich==15.0.0\n")
    _, status, _, steps = environment_of("3.11")
    assert status == 0 and len(installed(steps)) == 3 and not any("venv" in step.split() for step in steps)


def test_a_half_made_environment_is_made_again(environment_of, project, tmp_path):
    failing = tmp_path / "record.fail"
    failing.touch()
    _, status, errors, _ = environment_of("3.11")
    assert status == 1 and errors == "no network\n"
    failing.unlink()
    (project / ".venv/left over").touch()
    _, status, _, steps = environment_of("3.11")
    assert status == 0 and steps[0] == f"-m venv {project}/.venv" and len(installed(steps)) == 3
    assert not (project / ".venv/left over").exists()


def test_a_half_made_environment_is_made_again_by_its_own_interpreter_or_before_it_has_one(environment_of, project):
    bin_folder = project / ".venv/bin"
    bin_folder.mkdir(parents=True)
    (project / ".venv/fsd-half-made").touch()
    assert environment_of("3.11")[:2] == (".venv", 0)
    (project / ".venv/fsd-half-made").touch()
    (project / ".venv/fsd-complete").unlink()
    assert environment_of("3.11", bin_folder)[:2] == (".venv", 0)


def test_another_python_version_has_an_environment_of_its_own(environment_of):
    environment_of("3.11")
    chosen, _, _, steps = environment_of("3.12")
    assert chosen == ".venv-3.12" and len(installed(steps)) == 3
    assert environment_of("3.12")[3] == []
    assert environment_of("3.11") == (".venv", 0, "", [])


def test_an_interpreter_that_is_too_old_is_refused(environment_of, project):
    chosen, status, errors, steps = environment_of("3.10")
    assert (status, steps) == (2, []) and not (project / ".venv").exists()
    assert "Python 3.11 or newer is needed" in errors and errors.count("\n") == 1
