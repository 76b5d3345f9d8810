"""Run a script inside a forked child process, on a machine with faults; shared by the stress programs."""

import contextlib
import fcntl
import io
import os
import runpy
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def be_program(script, arguments, crashed):
    """Run ``script`` (a path in the project) as ``__main__`` and exit with its status, or with ``crashed`` after a traceback."""
    sys.argv, status = [str(ROOT / script), *map(str, arguments)], 0
    try:
        sys.path.insert(0, str((ROOT / script).parent))  # where the interpreter looks for a script's own modules
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        status = crashed
        with contextlib.suppress(OSError):
            traceback.print_exc()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError:
        status = status or 120  # as Python ends where its last words cannot be written
    os._exit(status)


def set_clock(seconds):
    """Let this process's clock be wrong by ``seconds``; what measures durations stays right."""
    now, text, local = time.time, time.strftime, time.localtime
    time.time = lambda: now() + seconds
    time.localtime = lambda when=None: local(time.time() if when is None else when)
    time.strftime = lambda layout, when=None: text(layout, time.localtime() if when is None else when)


def take_locks_away(number):
    """Let every lock of this process fail with the errno ``number``."""

    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock


def lead_nowhere(unheard):
    """Let standard output (1) or error (2) lead to a pipe without a reader ("closed"), a full disk ("full") or nothing ("gone").

    Both then hold back what cannot be written until the process ends, as Python does without PYTHONUNBUFFERED.
    """
    for descriptor, where in unheard.items():
        writing = os.open("/dev/full", os.O_WRONLY) if where == "full" else closed_pipe()
        os.dup2(writing, descriptor)
        os.close(writing)
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False))
    sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), errors="backslashreplace", line_buffering=True)
    for descriptor, where in unheard.items():
        if where == "gone":
            os.close(descriptor)
            setattr(sys, {1: "stdout", 2: "stderr"}[descriptor], None)


def closed_pipe():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing
