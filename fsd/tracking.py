"""What people see: the log, TensorBoard, results.csv."""

import csv
import fcntl
import io
import logging
import os
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

from fsd.files import InputError, check_folder, is_main_process, written_whole
from fsd.metrics import METRIC_NAMES

logger = logging.getLogger(__name__)
RESULT_COLUMNS = (
    "time", "task", "method", "teacher", "output_dir", "seed", "alpha", "beta", "temperature", "gamma_i", "gamma_l",
    "gamma_g", "gamma_m", "do_layerwise", "mask_padding", "copied_from", "train_samples", "max_seq_length", "batch_size",
    "accumulation", "epochs", "steps", "learning_rate", "precision", "group_by_length", "compile",
    "cache_teacher", *METRIC_NAMES, "seconds", "commit", "run",
)


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


def check_results_file(path):
    """Refuse a results file that this version did not write, or that is no file; changes nothing."""
    path = Path(path)
    if os.path.lexists(path) and not path.is_file():  # a folder, a pipe, a device, a link to nothing
        raise InputError(f"--results_file {path} is no regular file; name a CSV file")
    check_folder(Path(os.path.realpath(path)).parent, f"--results_file {path}")
    read_results(path)


def read_results(path):
    """The rows of the results file, dictionaries of text; none where there is no file, or an empty one.

    Raises:
        InputError: it cannot be read, or another version or program wrote it; names file and line.
    """
    what, line, rows = f"--results_file {path}", 1, []
    if not os.path.exists(path) or not os.path.getsize(path):
        return rows
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            if tuple(next(reader, ())) != RESULT_COLUMNS:
                raise InputError(f"{what}:1: its columns are not this version's; move it away or name another file")
            for row in reader:
                line = reader.line_num
                if len(row) != len(RESULT_COLUMNS):
                    raise InputError(f"{what}:{line}: {len(row)} fields instead of {len(RESULT_COLUMNS)}; mend the row, or move "
                                     "the file away")  # fmt: skip
                rows.append(dict(zip(RESULT_COLUMNS, row, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{what}: cannot read it beyond line {line}: {error}; mend it, or move it away") from error
    return rows


def append_result(path, row):
    """Append one row to the results file, under a lock, so that runs side by side lose none; a run's row only once."""
    path = Path(os.path.realpath(path))  # a link stays one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path.with_name(f".{path.name}.lock"), "w")
    except OSError as error:
        raise InputError(f"--results_file {path}: cannot write there: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        check_results_file(path)
        if path.exists() and any(known["run"] == row["run"] for known in read_results(path)):
            return
        old = path.read_bytes() if path.exists() else b""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, RESULT_COLUMNS, restval="", lineterminator="\n")
        if not old:
            writer.writeheader()
        writer.writerow(row)
        with written_whole(path) as temporary:
            temporary.write_bytes(old + (b"\n" if old and not old.endswith(b"\n") else b"") + text.getvalue().encode())
