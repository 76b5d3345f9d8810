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
    )  # fmt: skip
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
    )  # fmt: skip
    return {
        "PYTHON": sys.executable, "DATA": toy_glue, "BASE": bert, "TEACHER": folder / "the teacher",
        "MEMORY": folder / "the memory", "RUNS": folder / "runs", "RESULTS": folder / "all results.csv",
        "MAX_SEQ_LENGTH": 32, "BATCH_SIZE": 8, "K": 4, "MASK_PADDING": 1,
    }  # fmt: skip


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
