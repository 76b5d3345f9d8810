"""What a run asks of the machine, also of one that tells less than Linux does."""

import os

import pytest
import torch

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


def test_the_cpu_is_picked_without_a_gpu_or_on_request():
    assert devices.pick_device(no_cuda=True) == torch.device("cpu")


def test_attention_on_a_gpu_is_not_cudnn_s(monkeypatch):
    """Its gradients have NaN at some lengths, see fsd/system/devices.py."""
    enabled = torch.backends.cuda.cudnn_sdp_enabled()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        assert devices.pick_device().type == "cuda" and not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)
