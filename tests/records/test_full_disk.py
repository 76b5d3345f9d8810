"""Full disks, and folders that cannot be written to."""

import resource
import signal
from contextlib import contextmanager

import pytest
from resumable import assert_same_results, stop_in_step

from fsd.records.tracking import Tracker
from fsd.system.errors import InputError
from fsd.system.logs import start_logging


@contextmanager
def file_size_limit(size):
    """Files larger than ``size`` bytes fail to be written, as on a full disk; pytest's own output would too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_costs_the_new_checkpoint_only(submit, left_alone, monkeypatch, tmp_path):
    stop_in_step(monkeypatch, 3, signal.SIGTERM)
    assert submit().status == 143
    saved = {path: path.read_bytes() for path in (tmp_path / "out/checkpoint-3").iterdir()}
    model, state = (tmp_path / f"out/checkpoint-3/{name}.safetensors" for name in ("model", "training_state"))
    for limit in (model.stat().st_size - 1, state.stat().st_size - 1):
        with file_size_limit(limit):
            full = submit()
        assert full.status == 2 and "Traceback" not in full.err
        assert "cannot write" in full.last_line and "free some space" in full.last_line
        assert saved == {path: path.read_bytes() for path in (tmp_path / "out/checkpoint-3").iterdir()}
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoint-3", "training_args.json"]
    assert submit().status == 0
    assert_same_results(tmp_path / "out", left_alone)


def test_a_disk_that_is_full_for_tensorboard_is_told_in_a_line(tmp_path, capfd):
    with start_logging():
        tracker = Tracker(tmp_path, "run")
        tracker.scalars("train", {"total": 1.0}, 1)
        tracker.flush()
        (file,) = (tmp_path / "run").iterdir()
        with file_size_limit(file.stat().st_size), pytest.raises(InputError, match="--run_file .*: cannot write there"):
            for step in range(100):
                tracker.scalars("train", {"total": 1.0}, step)
                tracker.flush()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("flag", ["output_dir", "results_file", "run_file", "cache_teacher"])
def test_places_that_cannot_be_written_to_are_told(submit, flag):
    refused = submit(f"--{flag}", "/proc/nowhere/at-all")
    assert refused.status == 2 and "Traceback" not in refused.err
    assert f"--{flag} /proc/nowhere" in refused.last_line
