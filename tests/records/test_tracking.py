"""TensorBoard: each step is there once, however often a run was resumed."""

import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsd.records.tracking import Tracker


@pytest.mark.parametrize("clock", [[5e9, 4e9, 3e9], [1e9, 5e9, 0], [2e9, 2e9, 2e9]])
def test_a_resumed_run_shows_each_step_once_whatever_the_clock_says(tmp_path, monkeypatch, clock):
    names = []
    for now, first, last in zip(clock, (1, 21, 41), (33, 50, 60), strict=True):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        tracker = Tracker(tmp_path, "run", first - 1)
        for step in range(first, last + 1):
            tracker.scalars("train", {"total": step + first / 100}, step)
        tracker.writer.close()
        names.append(sorted(path.name for path in (tmp_path / "run").iterdir()))
        events = EventAccumulator(str(tmp_path / "run")).Reload().Scalars("train/total")
        assert [event.step for event in events] == list(range(1, last + 1))
    assert [event.value for event in events][::20] == pytest.approx([1.01, 21.21, 41.41])
    assert [len(files) for files in names] == [1, 2, 3] and names[1][0] == names[2][0]  # and each is numbered only once


def test_other_files_in_the_folder_keep_their_names(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    Tracker(tmp_path, "run").writer.close()
    assert (tmp_path / "run/notes.txt").exists()
