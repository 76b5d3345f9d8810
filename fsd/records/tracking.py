"""TensorBoard: the curves, hyper-parameters and metrics of a run."""

from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fsd.system.errors import InputError
from fsd.system.launcher import is_main_process

ONCE = "trained"  # prefix of the scalars of the trained model: TensorBoard then shows them after the curves, "dev" and "train"
EARLIER = "events.out.{:06d}."  # sorts before the names of new files, which start with events.out.tfevents.


def put_first(folder):
    """Number the event files of a run, so that they sort before any new one.

    TensorBoard reads a run's files in the order of their names, which hold the time of writing. A clock that was set back,
    or another machine's, would put the file of a resumed run before the values that it hides.
    """
    for number, path in enumerate(sorted(Path(folder).glob("events.out.*tfevents.*"))):
        name = path.name[path.name.index("tfevents.") :]
        path.rename(path.with_name(EARLIER.format(number) + name))


class Tracker:
    """TensorBoard scalars and images of one run, in its own folder under ``run_file``. Only the main process writes them.

    A run that resumes after ``step`` writes into its old folder, and TensorBoard hides the old values of later steps.

    Raises:
        InputError: the folder cannot be written to, at the start or later.
    """

    def __init__(self, run_file, name, step=0):
        self.folder, self.writer = Path(run_file) / name, None
        if not is_main_process():
            return
        with self._writing():
            resumes = self.folder.exists()
            if resumes:
                put_first(self.folder)
            self.writer = SummaryWriter(str(self.folder), flush_secs=10, purge_step=step + 1 if resumes else None)

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

    def image(self, name, picture, step):
        """Write a picture [height, width, 3], of values in [0, 1], as the image ``name``."""
        with self._writing():
            if self.writer:
                self.writer.add_image(name, picture, step, dataformats="HWC")

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
        self.scalars(ONCE, metrics, step)
        names = dict.fromkeys([*all_metrics, *metrics])
        with self._writing():
            for summary in hparams(hyperparameters, {f"{ONCE}/{name}": 0 for name in names}):
                self.writer.file_writer.add_summary(summary)
            self.writer.close()
