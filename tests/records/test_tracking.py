"""TensorBoard: a run that goes on has one curve, whatever its clock says."""

import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsd.records.tracking import Tracker


def test_curves_stay_in_order_when_the_clock_was_set_back(tmp_path, monkeypatch):
    now = time.time()
    for start, clock in ((0, now), (2, now - 86400), (3, now - 86400), (4, 1000.0)):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        tracker = Tracker(tmp_path, "run", start)
        for step in range(start + 1, start + 4):
            tracker.scalars("train", {"loss": step / 2}, step)
        tracker.flush()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(step, step / 2) for step in range(1, 8)]
