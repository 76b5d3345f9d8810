"""SIGTERM and SIGINT: they end a program at once, or where there is something to save after the current step."""

import signal
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal ended the program; the message is one line, ``status`` the exit status (143 for SIGTERM, 130 for SIGINT).

    Like KeyboardInterrupt no ``Exception``: what mends or reports errors lets it pass.
    """

    def __init__(self, number, rest=""):
        super().__init__(f"stopped by {signal.Signals(number).name}{rest}")
        self.number, self.status = number, 128 + number


@contextmanager
def handling_signals(handler):
    """Have ``handler`` called for both signals while the block runs."""
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def stop_at_once(number, frame):
    """A handler: leave through every ``finally``, so that temporary files go."""
    raise Stopped(number)


@contextmanager
def noting_signals():
    """Yield a list that signals are put into instead of ending the block.

    Further ones change nothing: a launcher hands on what its processes have got already.
    """
    noted = []
    with handling_signals(lambda number, frame: noted.append(number)):
        yield noted
