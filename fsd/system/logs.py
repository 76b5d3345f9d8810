"""Logging and progress bars."""

import logging
import sys
import threading

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from fsd.system.launcher import is_main_process


def start_logging():
    """Log to standard error in the main process; returns a context that keeps log lines and progress bars apart."""
    layout = "%(asctime)s %(levelname)s %(message)s"
    level = logging.WARNING if is_main_process() else logging.CRITICAL
    logging.basicConfig(format=layout, datefmt="%H:%M:%S", level=level, stream=sys.stderr)
    logging.getLogger("fsd").setLevel(logging.INFO if is_main_process() else logging.CRITICAL)
    threading.excepthook = report_thread_error
    return logging_redirect_tqdm()


def report_thread_error(failure):
    """Print a thread's error, except for TensorBoard's file errors: its next write raises them, as one line."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def progress_bar(**options):
    """A tqdm bar, shown by the main process only, and only on a terminal: a file would fill with control characters."""
    return tqdm(disable=not (is_main_process() and sys.stderr.isatty()), **options)


def duration(seconds):
    """Seconds in words: "42 s", "7 min", "2.5 h"."""
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
