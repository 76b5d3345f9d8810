"""What people see while it runs: the log and TensorBoard; and the versions that ran."""

import logging
import platform
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm.contrib.logging import logging_redirect_tqdm

from fsd.files import InputError, is_main_process

logger = logging.getLogger(__name__)


def start_logging():
    """Send the log to standard error, without tearing progress bars; returns the context that does the latter.

    Of several processes the main one speaks for all.
    """
    layout = "%(asctime)s %(levelname)s %(message)s"
    level = logging.WARNING if is_main_process() else logging.CRITICAL
    logging.basicConfig(format=layout, datefmt="%H:%M:%S", level=level, stream=sys.stderr)
    logging.getLogger("fsd").setLevel(logging.INFO if is_main_process() else logging.CRITICAL)
    threading.excepthook = report_thread_error
    return logging_redirect_tqdm()


def report_thread_error(failure):
    """Print a thread's error, but not that of TensorBoard's about its files: the next write raises it, and tells it in a line."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def commit():
    """The checkout's commit, with "+" where files are changed; "unknown" outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"


def versions():
    """Versions of what decides a run's numbers."""
    return {
        "commit": commit(), "python": platform.python_version(), "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


class Tracker:
    """TensorBoard scalars of one run, in a folder of its own under ``run_file``; the main process alone writes them.

    A run that goes on after ``step`` writes into the folder that it has; what lies there of later steps no longer counts.

    Raises:
        InputError: the folder cannot be written to, at the start or later.
    """

    def __init__(self, run_file, name, step=0):
        self.folder, self.writer = Path(run_file) / name, None
        if not is_main_process():
            return
        with self._writing():
            self.writer = SummaryWriter(str(self.folder), flush_secs=10, purge_step=step + 1 if self.folder.exists() else None)

    @contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            reason = f"cannot write there: {error.strerror or error}; free some space or name another folder"
            raise InputError(f"--run_file {self.folder.parent}: {reason}") from error

    def scalars(self, prefix, values, step):
        """One scalar a value, named ``prefix/name``."""
        with self._writing():
            for name, value in values.items() if self.writer else ():
                self.writer.add_scalar(f"{prefix}/{name}", value, step)

    def flush(self):
        """Wait until everything so far is in its file."""
        with self._writing():
            if self.writer:
                self.writer.flush()

    def finish(self, hyperparameters, metrics, step):
        """Write the hyper-parameters with the final metrics, and close."""
        if not self.writer:
            return
        plain = {k: v if isinstance(v, (bool, int, float, str)) else str(v) for k, v in hyperparameters.items()}
        self.scalars("final", metrics, step)
        with self._writing():
            for summary in hparams(plain, {f"final/{name}": value for name, value in metrics.items()}):
                self.writer.file_writer.add_summary(summary)
            self.writer.close()
