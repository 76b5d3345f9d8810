"""The shell scripts: each experiment through its real command line, and how the environment is chosen."""

import csv
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from safetensors import safe_open

STUDENTS = ("kd", "fsd_i", "fsd_l", "fsd_g", "fsd_il", "fsd_ilg")


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
    assert saved["method"] == name.upper()
    assert (saved["steps"], saved["arguments"]["seed"], saved["arguments"]["mask_padding"]) == (2, 7, True)
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 2
    assert (out / "student_memory.safetensors").exists() == (name in ("fsd_g", "fsd_ilg"))
    assert "acc" in (out / "eval_results.txt").read_text()
    assert list(lab["RUNS"].glob(f"RTE-{name.upper()}-7-*"))
    assert "the\\ teacher" in printed  # the command line as it can be pasted
    with open(lab["RESULTS"], newline="") as file:
        assert str(out) in {row["output_dir"] for row in csv.DictReader(file)}


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

    def run(version):
        python = tmp_path / f"python{version}"
        python.write_text(PRETENDER.replace("VERSION", version).replace("RECORD", str(record)))
        python.chmod(0o755)
        record.write_text("")
        ended = subprocess.run(
            ["bash", str(project / "scripts/show.sh")], cwd="/", capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "PYTHON": str(python)},
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
