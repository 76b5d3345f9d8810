"""What a run asks of the machine, also of one that tells less than Linux does."""

import os

import pytest
import torch

from fsd.cli import description
from fsd.models.model_files import make_config
from fsd.system import devices
from fsd.training import teacher_cache

BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}


@pytest.fixture
def like_macos(monkeypatch, tmp_path):
    """No /proc/meminfo, and an ``os`` without ``posix_fallocate``."""
    monkeypatch.setattr(devices, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.delattr(os, "posix_fallocate")


def test_where_the_system_does_not_tell_its_free_ram_the_checks_are_left_out(like_macos, monkeypatch):
    assert devices.free_ram() is None
    assert make_config(BERT, "config.json").hidden_size == 8


def test_where_there_is_no_posix_fallocate_the_teachers_cache_is_written(like_macos, tmp_path):
    array = teacher_cache._mapped(tmp_path / "logits.npy", (3, 2))
    array[:] = 1
    array.flush()
    assert teacher_cache.np.load(tmp_path / "logits.npy").sum() == 6


def test_a_run_on_such_a_system(like_macos, run_script, toy_glue, rte_teacher, tmp_path):
    finished = run_script(
        "run_glue_intra_inter.py", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE",
        "--output_dir", tmp_path / "out", "--do_train", "--max_seq_length", 24, "--max_steps", 1, "--cache_teacher", "ram",
    )
    assert finished.status == 0, finished.err


def test_free_ram_is_less_than_all_of_it():
    free = devices.free_ram()
    assert 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_files_that_a_container_keeps_in_ram_count_as_free(monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "CONTAINER", tmp_path)
    free, used = devices.free_ram(), 3_000_000
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 900000\nfile 2100000\nactive_file 600000\ninactive_file 1500000\nslab 7\n")
    (tmp_path / "memory.max").write_text("4000000\n")
    assert devices.free_ram() == 4_000_000 - used + 2_100_000
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.free_ram() == pytest.approx(free, rel=0.2)


def test_the_cpu_is_picked_without_a_gpu_or_on_request():
    assert devices.pick_device(no_cuda=True) == torch.device("cpu")


def test_a_slow_precision_is_told_of_cpus_alone(monkeypatch):
    seconds = iter([[3.0, 6.0], [1.0, 2.0], [1.9, 2.0], [1.0, 2.0]])
    monkeypatch.setattr(devices.timeit, "repeat", lambda step, **_: (step(), next(seconds))[1])
    assert devices.slowdown_on_cpu(torch.device("cpu"), torch.bfloat16) == 3.0
    assert devices.slowdown_on_cpu(torch.device("cpu"), torch.bfloat16) is None
    assert devices.slowdown_on_cpu(torch.device("cpu"), None) is None
    assert devices.slowdown_on_cpu(torch.device("cuda"), torch.bfloat16) is None


def test_a_run_warns_of_a_precision_that_is_slow_here(monkeypatch, run_script, toy_glue, rte_teacher, tmp_path):
    monkeypatch.setattr(description, "slowdown_on_cpu", lambda device, precision: 7.0 if precision else None)
    common = ["--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_train",
              "--max_seq_length", 24, "--max_steps", 1, "--skip_teacher_eval"]
    for flags, warns in (([], False), (["--bf16"], True)):
        finished = run_script("run_glue_intra_inter.py", *common, *flags, "--output_dir", tmp_path / f"out{warns}")
        assert finished.status == 0, finished.err
        assert ("--bf16 takes about 7 times as long as float32 on this CPU" in finished.err) == warns


def test_attention_on_a_gpu_is_not_cudnn_s(monkeypatch):
    """Its gradients have NaN at some lengths, see fsd/system/devices.py."""
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        assert devices.pick_device().type == "cuda" and not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)
