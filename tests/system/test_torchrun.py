"""The scripts as torchrun starts them: the same files as from one process, written once, and an end when one is lost."""

import csv
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from fsd.system.devices import pick_device
from fsd.system.errors import InputError

LENGTH = 24


@pytest.fixture
def torchrun(tmp_path):
    """Call ``torchrun(processes, script, flags…)``: (exit status, stderr); run in an empty folder."""

    def run(processes, script, *arguments):
        ended = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), str(script),
             *map(str, arguments)],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return ended.returncode, ended.stderr

    return run


@pytest.fixture
def flags(rte_teacher, toy_glue, tmp_path):
    """What train_memory.py takes too, and what a student without dropout takes besides."""
    shape = json.loads((rte_teacher / "config.json").read_text())
    shape |= {"num_hidden_layers": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (tmp_path / "student.json").write_text(json.dumps(shape))
    common = [
        "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_lower_case", "--do_train",
        "--max_seq_length", LENGTH, "--run_file", tmp_path / "runs", "--mask_padding",
    ]
    student = ["--student_config_name", tmp_path / "student.json", "--copy_teacher", "--num_train_epochs", 2]
    return common, [*student, "--learning_rate", "1e-3"]


def test_two_processes_write_what_one_does(run_script, torchrun, flags, tmp_path):
    """Batches of 16 from 70 examples, 8 a process; the last is of 6."""
    common, student = flags
    memory = ["--num_centroid", 5, "--per_gpu_train_batch_size", 16, "--overwrite_cache"]
    status, errors = torchrun(2, ROOT / "train_memory.py", *common, *memory, "--output_dir", "memory of two")
    assert status == 0, errors
    assert run_script("train_memory.py", *common, *memory, "--output_dir", "memory").status == 0
    one, two = (load_file(tmp_path / name / "memory.safetensors") for name in ("memory", "memory of two"))
    assert torch.equal(one["counts"], two["counts"])
    torch.testing.assert_close(one["centroids"], two["centroids"], rtol=1e-6, atol=1e-6)  # float32 rounding
    student += ["--teacher_memory_path", tmp_path / "memory", "--gamma_m", 0.01, "--do_eval", "--do_predict", "--save_steps", 4,
                "--eval_all_checkpoints", "--evaluate_during_training", "--cache_teacher", tmp_path / "cache"]
    status, errors = torchrun(2, ROOT / "run_glue_all.py", *common, *student, "--per_gpu_train_batch_size", 8,
                              "--output_dir", tmp_path / "two")
    assert status == 0, errors
    assert errors.count("weighted losses at the first step") == errors.count("teacher on dev") == 1
    assert "2 processes of 8 examples each" in errors
    finished = run_script("run_glue_all.py", *common, *student, "--per_gpu_train_batch_size", 16,
                          "--output_dir", tmp_path / "one")
    assert finished.status == 0, finished.err
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(p.name for p in (tmp_path / "two").iterdir())
    for name in ("model.safetensors", "student_memory.safetensors", "checkpoint-8/model.safetensors"):
        expected, actual = (load_file(tmp_path / folder / name) for folder in ("one", "two"))
        for parameter, value in expected.items():
            if not parameter.endswith("key.bias"):  # no gradient but rounding, which Adam magnifies
                torch.testing.assert_close(actual[parameter], value, rtol=0, atol=1e-4)  # 10 steps of at most 1e-3
    for name in ("eval_results.txt", "predictions/RTE.tsv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    rows = list(csv.DictReader(open(tmp_path / "results.csv", newline="")))
    assert [row["batch_size"] for row in rows] == ["16", "16"] and rows[0]["acc"] == rows[1]["acc"]
    assert len(list((tmp_path / "runs").iterdir())) == 4 and not list(tmp_path.rglob("*.fsd-tmp"))


LOSES_ONE = """
import os, runpy, signal, sys
from fsd.system import errors
from fsd.training.loss_log import LossLog

def write(self, step, *others):
    if step == 3 and os.environ["RANK"] == "1":
        {end}

LossLog.write = write
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("end, told", [
    ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
    ("raise errors.InputError('this disk is full')", "\nrun_glue_intra_inter.py, rank 1: error: this disk is full\n"),
])
def test_the_loss_of_one_process_ends_all(torchrun, flags, tmp_path, end, told):
    (tmp_path / "loses_one.py").write_text(LOSES_ONE.format(end=end))
    start = time.monotonic()
    status, errors = torchrun(2, tmp_path / "loses_one.py", ROOT / "run_glue_intra_inter.py", *sum(flags, []), "--beta", 0,
                              "--output_dir", tmp_path / "out", "--logging_steps", 1, "--skip_teacher_eval")
    assert status != 0 and time.monotonic() - start < 240  # else the other waits for days
    assert told in errors
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_processes_stop_together_and_go_on_with_their_own_random_streams(torchrun, run_script, flags, tmp_path):
    """The signal reaches one process alone, in step 3. Dropout is on: the student has the teacher's configuration."""
    (tmp_path / "stops.py").write_text(LOSES_ONE.format(end="os.kill(os.getpid(), signal.SIGTERM)"))
    script = ROOT / "run_glue_intra_inter.py"
    command = [*flags[0], "--copy_teacher", "--num_train_epochs", 2, "--learning_rate", "1e-3", "--skip_teacher_eval",
               "--logging_steps", 1, "--resume"]
    assert torchrun(2, script, *command, "--output_dir", "alone")[0] == 0
    status, errors = torchrun(2, tmp_path / "stops.py", script, *command, "--output_dir", "out")
    assert status != 0 and "stopped by SIGTERM after step 3: out/checkpoint-3 is saved" in errors
    assert "--nproc_per_node is 1" in run_script("run_glue_intra_inter.py", *command, "--output_dir", "out").last_line
    status, errors = torchrun(2, script, *command, "--output_dir", "out")
    assert status == 0, errors
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("alone", "out"))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def test_a_cache_in_the_memory_of_each_process_is_refused(run_script, flags, monkeypatch, tmp_path):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    finished = run_script("run_glue_intra_inter.py", *sum(flags, []), "--output_dir", "out", "--cache_teacher", "ram")
    assert finished.status == 2 and "--cache_teacher ram: each process would keep all of it; name a folder" in finished.last_line
    assert not (tmp_path / "out").exists()


def test_an_environment_that_is_not_torchruns_is_told(run_script, flags, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    finished = run_script("run_glue_intra_inter.py", *sum(flags, []), "--output_dir", "out")
    assert finished.status == 2 and "WORLD_SIZE is 2 in the environment, but RANK is not set" in finished.last_line


@pytest.mark.parametrize(("name", "value"), [
    ("MASTER_PORT", "abc"), ("MASTER_PORT", "70000"), ("RANK", "x"), ("RANK", "2"), ("LOCAL_RANK", "-1"), ("WORLD_SIZE", "two"),
])
def test_a_variable_of_torchruns_that_is_no_number_of_its_range_is_told(run_script, flags, monkeypatch, name, value):
    sound = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for variable, content in (sound | {name: value}).items():
        monkeypatch.setenv(variable, content)
    finished = run_script("run_glue_intra_inter.py", *sum(flags, []), "--output_dir", "out")
    assert finished.status == 2 and f"{name} is '{value}' in the environment" in finished.err


def test_a_local_rank_that_is_no_number_is_told_where_there_are_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    sound = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "x", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for variable, content in sound.items():
        monkeypatch.setenv(variable, content)
    with pytest.raises(InputError, match="LOCAL_RANK is 'x' in the environment"):
        pick_device()


@pytest.mark.parametrize("environment", [{"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, {"RANK": "3"}])
def test_one_process_makes_no_process_group(run_script, flags, monkeypatch, tmp_path, environment):
    """One of torchrun's, or one with a variable that another program left."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.distributed, "init_process_group", None)
    finished = run_script("run_glue_intra_inter.py", *sum(flags, []), "--output_dir", "out", "--max_steps", 1)
    assert finished.status == 0 and (tmp_path / "out" / "model.safetensors").is_file(), finished.err


def test_the_slurm_script_starts_one_torchrun_a_node(tmp_path):
    """srun and scontrol are stand-ins; the interpreter is one that prints what it is given."""
    for name, script in (("srun", 'shift; exec "$@"'), ("scontrol", "printf 'node7\\nnode9\\n'"), ("python", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": "python", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "31234567",
        "SLURM_JOB_NODELIST": "node[7,9]", "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4",
    }
    ended = subprocess.run(["bash", ROOT / "scripts/slurm.sbatch", "run_glue_all.py", "--beta", "3"], env=environment, check=True,
                           capture_output=True, text=True)
    assert ended.stdout.split() == [
        "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "4", "--rdzv_backend", "c10d", "--rdzv_id",
        "31234567", "--rdzv_endpoint", "node7:24567", "run_glue_all.py", "--beta", "3",
    ]
