"""Errors of the user's, told in one line. Imports nothing heavy, so that an argument error is told at once."""

import contextlib
import io
import os
import signal
import sys
import time
from pathlib import Path

from fsd.system.launcher import is_main_process, started_alone
from fsd.system.signals import Stopped, handling_signals, stop_at_once

LONGEST = 800  # characters of an error line


class InputError(Exception):
    """Something that the user handed over is wrong. The message is one line: what, where, and what to do."""


def exit_on_input_error(main):
    """Run ``main()``. What is wrong becomes one line on standard error and exit status 2; so do signals, with their status."""
    if sys.stderr is None:  # the caller closed it; the next file to be opened would get our messages
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (open until the end)
    try:
        status = status_of(main)
    finally:
        drop_unheard()
    if status:
        sys.exit(status)


def status_of(main):
    """The exit status of ``main()``, after the line that tells what was wrong."""
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal of ASCII alone cannot show a β
        with handling_signals(stop_at_once):
            main()
        if sys.stdout is not None:
            sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        return 128 + signal.SIGPIPE
    except Stopped as stopped:
        if is_main_process() or stopped.waiting:
            rank = "" if is_main_process() else f", rank {os.environ['RANK']}"
            say(f"{Path(sys.argv[0]).name}{rank}: {stopped}")
        if not started_alone():
            drop_unheard()
            os._exit(stopped.status)  # an ordinary end could wait without limit, for a thread that waits for another process
        return stopped.status
    except InputError as error:
        message = str(error)
    except OSError as error:
        where, what = error.filename or working_directory(), error.strerror or error
        message = f"{where}: {what}; check the path, its permissions and the free space"
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"out of memory: {first_line(error)}; take smaller batches or shorter examples, or end other programs"
    name = Path(sys.argv[0]).name
    if not is_main_process():
        time.sleep(3)  # rank 0 mostly meets the same error, and torchrun then ends this process before it repeats it
        name = f"\n{name}, rank {os.environ['RANK']}"  # the line break keeps it off the end of rank 0's progress bar
    say(f"{name}: error: {one_line(message)}")
    return 2


def say(text):
    """Print a line on standard error. A full disk or a pipe that nobody reads costs the line alone."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


NO_MEMORY = "out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"


def is_out_of_memory(error):
    """Whether the error of Python, NumPy or torch says that there is no memory left, on the CPU or the GPU."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def drop_unheard():
    """Drop what the standard streams still hold back if it cannot be written. Python would end with status 120 for it."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def working_directory():
    """The working directory, which an error without a file's name is mostly about."""
    try:
        return f"the working directory {os.getcwd()}"
    except OSError:
        return "the working directory, which has been removed"


def one_line(text):
    """``text`` on one line: what a terminal does not show becomes an escape, the middle of a long text is left out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 200]} … {text[-200:]}"


def first_line(error):
    """The first line of an error's message, or the name of its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
