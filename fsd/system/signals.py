"""SIGTERM and SIGINT: they end a program at once, but training only after the current step and a checkpoint."""

import signal
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal ended the program; ``status`` is the exit status (143 for SIGTERM, 130 for SIGINT). The message is one line.

    Like KeyboardInterrupt it is not an ``Exception``, so error handlers do not catch it.
    """

    def __init__(self, number, rest=""):
        super().__init__(f"stopped by {signal.Signals(number).name}{rest}")
        self.number, self.status = number, 128 + number


@contextmanager
def handling_signals(handler):
    """Call ``handler`` for both signals while the block runs."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def stop_at_once(number, frame):
    """A handler that raises :class:`Stopped`, so that every ``finally`` removes its temporary files."""
    raise Stopped(number)


@contextmanager
def noting_signals():
    """Yield a list that collects signals, so that they do not end the block.

    Repeated signals do no harm: a launcher may pass on a signal that its processes already have.
    """
    noted = []
    with handling_signals(lambda number, frame: noted.append(number)):
        yield noted
