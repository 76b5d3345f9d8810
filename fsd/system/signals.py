"""SIGTERM and SIGINT: they end a program at once, but training only after the current step and a checkpoint."""

import os
import signal
import sys
import time
from contextlib import contextmanager

from fsd.system.launcher import is_main_process

SIGNALS = (signal.SIGTERM, signal.SIGINT)
REPEATED = 1  # seconds; a launcher passes on a signal sooner, a person sends a second one later
PATIENCE = 20  # seconds; torchrun kills its processes 30 seconds after it has passed on a signal


class Stopped(BaseException):
    """A signal ended the program; ``status`` is the exit status (143 for SIGTERM, 130 for SIGINT). The message is one line.

    ``waiting`` tells whether the signal ended a wait for another process, so that each process reports it, not rank 0 alone.
    Like KeyboardInterrupt it is not an ``Exception``, so error handlers do not catch it.
    """

    def __init__(self, number, rest="", waiting=False):
        rest = " while it waited for another process" if waiting else rest
        super().__init__(f"stopped by {signal.Signals(number).name}{rest}")
        self.number, self.status, self.waiting = number, 128 + number, waiting


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
    """A handler that raises :class:`Stopped`, so that every ``finally`` removes its temporary files.

    During an import it ends the process instead: the libraries' own code there swallows exceptions or breaks on them.
    """
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            end_at_once(number, frame)
        frame = frame.f_back
    raise Stopped(number)


def end_at_once(number, frame):
    """A handler that ends the process with one line. Nothing is cleaned up."""
    if is_main_process():
        try:
            os.write(2, f"{os.path.basename(sys.argv[0])}: stopped by {signal.Signals(number).name}\n".encode(errors="replace"))
        except OSError:  # standard error may be closed
            pass
    os._exit(128 + number)


_noted = []  # the signals of noting_signals(), and when they came


@contextmanager
def noting_signals():
    """Yield a list that collects signals, so that they do not end the block.

    A signal within ``REPEATED`` of the last is not noted: a launcher may pass on one that its processes already have.
    """
    noted = []

    def note(number, frame):
        now = time.monotonic()
        if not _noted or now - _noted[-1][1] > REPEATED:
            noted.append(number)
            _noted.append((number, now))

    try:
        with handling_signals(note):
            yield noted
    finally:
        _noted.clear()


def overdue(start):
    """The noted signal that must end a wait for other processes, or None.

    A wait that began at ``start`` (of ``time.monotonic``) goes on after a first signal, because the others may only be slow.
    A second signal ends it, or ``PATIENCE``.
    """
    if not _noted:
        return None
    number, first = _noted[0]
    return number if len(_noted) > 1 or time.monotonic() - max(start, first) > PATIENCE else None
