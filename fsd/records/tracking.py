"""TensorBoard: the curves, hyper-parameters and metrics of a run."""

import time
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fsd.system.errors import InputError
from fsd.system.launcher import is_main_process


def sort_before_now(folder):
    """Rename a run's event files if a new one would not sort after them: TensorBoard reads them by name, which begins with the
    time, and the clock may have been set back.
    """
    files = sorted(folder.glob("events.out.tfevents.*"))
    if files and files[-1].name >= f"events.out.tfevents.{int(time.time()):010d}":
        for number, path in enumerate(files):
            *start, _, rest = path.name.split(".", 4)
            path.rename(path.with_name(".".join([*start, f"{number:010d}", rest])))


class Tracker:
    """TensorBoard scalars of one run, in its own folder under ``run_file``. Only the main process writes them.

    A run that resumes after ``step`` writes into its old folder, and TensorBoard hides the old values of later steps.

    Raises:
        InputError: the folder cannot be written to, at the start or later.
    """

    def __init__(self, run_file, name, step=0):
        self.folder, self.writer = Path(run_file) / name, None
        if not is_main_process():
            return
        with self._writing():
            sort_before_now(self.folder)
            self.writer = SummaryWriter(str(self.folder), flush_secs=10, purge_step=step + 1 if self.folder.exists() else None)

    @contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            reason = f"cannot write there: {error.strerror or error}; free some space or name another folder"
            raise InputError(f"--run_file {self.folder.parent}: {reason}") from error

    def scalars(self, prefix, values, step):
        """Write each value as the scalar ``prefix/name``."""
        with self._writing():
            for name, value in values.items() if self.writer else ():
                self.writer.add_scalar(f"{prefix}/{name}", value, step)

    def flush(self):
        """Write everything so far to the file."""
        with self._writing():
            if self.writer:
                self.writer.flush()

    def finish(self, hyperparameters, metrics, step, all_metrics=()):
        """Write the hyper-parameters with the final metrics, and close.

        TensorBoard's HParams page takes its columns from the first run that it reads. So every run passes the same
        hyper-parameters (name → bool, number or text), and with ``all_metrics`` the names of all metrics of all tasks.
        """
        if not self.writer:
            return
        self.scalars("final", metrics, step)
        names = dict.fromkeys([*all_metrics, *metrics])
        with self._writing():
            for summary in hparams(hyperparameters, {f"final/{name}": 0 for name in names}):
                self.writer.file_writer.add_summary(summary)
            self.writer.close()
