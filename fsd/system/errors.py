"""Errors of the user's, told in one line. Imports nothing heavy, so that an argument error is told at once."""

import io
import os
import sys
import time
from pathlib import Path

from fsd.system.launcher import is_main_process, started_alone
from fsd.system.signals import Stopped, handling_signals, stop_at_once


class InputError(Exception):
    """Something that the user handed over is wrong. The message is one line: what, where, and what to do."""


def exit_on_input_error(main):
    """Run ``main()``. What is wrong becomes one line on standard error and exit status 2; so do signals, with their status."""
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal of ASCII alone cannot show a β
        with handling_signals(stop_at_once):
            main()
        return
    except Stopped as stopped:
        if is_main_process() or stopped.waiting:
            rank = "" if is_main_process() else f", rank {os.environ['RANK']}"
            print(f"{Path(sys.argv[0]).name}{rank}: {stopped}", file=sys.stderr, flush=True)
        if not started_alone():
            os._exit(stopped.status)  # sys.exit could wait without limit, for a thread that waits for another process
        sys.exit(stopped.status)
    except InputError as error:
        message = str(error)
    except OSError as error:
        where, what = error.filename or working_directory(), error.strerror or error
        message = f"{where}: {what}; check the path, its permissions and the free space"
    name = Path(sys.argv[0]).name
    if not is_main_process():
        time.sleep(3)  # rank 0 mostly meets the same error, and torchrun then ends this process before it repeats it
        name = f"\n{name}, rank {os.environ['RANK']}"  # the line break keeps it off the end of rank 0's progress bar
    print(f"{name}: error: {one_line(message)}", file=sys.stderr)
    sys.exit(2)


def working_directory():
    """The working directory, which an error without a file's name is mostly about."""
    try:
        return f"the working directory {os.getcwd()}"
    except OSError:
        return "the working directory, which has been removed"


def one_line(text, limit=800):
    """``text`` on one line: what a terminal does not show becomes an escape, the middle of a long text is left out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if len(text) <= limit else f"{text[:limit - 200]} … {text[-200:]}"


def first_line(error):
    """The first line of an error's message, or the name of its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
