"""Building the memory, stopped and resumed."""

import os
import signal

import torch
from safetensors.torch import load_file

from fsd.memory import streaming_kmeans as kmeans
from fsd.memory.teacher_memory import TeacherMemory

FLAGS = ["--task_name", "RTE", "--do_lower_case", "--max_seq_length", 24, "--do_train", "--num_centroid", 6, "--resume"]


def test_a_memory_stopped_in_a_pass_goes_on_after_the_last_whole_one(run_script, toy_glue, rte_teacher, monkeypatch, tmp_path):
    flags = [*FLAGS, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--memory_tolerance", 0,
             "--memory_num_train_epochs", 4]
    assert run_script("train_memory.py", *flags, "--output_dir", tmp_path / "alone").status == 0
    original = kmeans.lloyd_pass

    def stopped_pass(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(kmeans, "lloyd_pass", stopped_pass)
    stopped = run_script("train_memory.py", *flags, "--output_dir", tmp_path / "out")
    assert stopped.status == 143 and "--resume goes on after the last whole pass" in stopped.last_line
    assert "--num_centroid is 5" in run_script(
        "train_memory.py", *flags, "--output_dir", tmp_path / "out", "--num_centroid", 5).last_line
    monkeypatch.setattr(kmeans, "lloyd_pass", original)
    monkeypatch.setattr(kmeans, "mean_pass", None)  # which is not called again
    assert run_script("train_memory.py", *flags, "--output_dir", tmp_path / "out").status == 0
    for name, value in load_file(tmp_path / "alone/memory.safetensors").items():
        assert torch.equal(value, load_file(tmp_path / "out/memory.safetensors")[name]), name
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["memory.safetensors", "training_args.json"]


def test_flags_that_mean_the_same_or_nothing_do_not_part_runs(run_script, toy_glue, rte_teacher, tmp_path):
    flags = [*FLAGS, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--output_dir", tmp_path / "out"]
    assert run_script("train_memory.py", *flags, "--per_gpu_train_batch_size", 16).status == 0
    again = run_script("train_memory.py", *flags, "--per_gpu_memory_train_batch_size", 16, "--num_train_epochs", 3)
    assert again.status == 0 and "warning: --num_train_epochs has no effect" in again.err and "nothing to do" in again.err


def test_the_memory_of_a_teacher_of_one_layer_holds_its_embeddings(run_script, save_bert, toy_glue, tmp_path):
    built = run_script(
        "train_memory.py", "--model_name_or_path", save_bert(tmp_path / "bert", "RTE", layers=1), "--task_name", "RTE",
        "--data_dir", toy_glue, "--output_dir", tmp_path / "memory", "--do_train", "--num_centroid", 3, "--max_seq_length", 24,
        "--do_lower_case", "--max_train_samples", 24,
    )
    assert built.status == 0 and TeacherMemory.load(tmp_path / "memory").layer == 0, built.err
