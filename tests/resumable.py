"""Stopping a run in a step, and comparing what runs leave."""

import os

from fsd.training import update


def stop_in_step(monkeypatch, step, number):
    """This signal comes while that step is being computed."""
    original, calls = update.batch_losses, 0

    def counted(run, outputs):
        nonlocal calls
        calls += 1
        if calls == step:
            os.kill(os.getpid(), number)
        return original(run, outputs)

    monkeypatch.setattr(update, "batch_losses", counted)


def assert_same_results(first, second):
    for name in ("model.safetensors", "eval_results.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
