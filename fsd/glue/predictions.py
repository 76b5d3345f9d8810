"""The prediction files, as the GLUE leaderboard takes them."""

import math
from pathlib import Path

from fsd.system.errors import InputError
from fsd.system.files import write_text

HEADER = "index\tprediction"  # of the leaderboard's files


def write_predictions(task, split, index, predictions, folder):
    """Write the leaderboard's file for a test split into ``folder`` and return its path.

    The file appears only when it is complete. ``index`` is from the test file. ``predictions`` are class ids, written as
    the task's files name them, or scores, clipped to the task's range and written with at least three decimals. InputError
    for a NaN.
    """
    lines = [HEADER]
    for at, prediction in zip(index, predictions, strict=True):
        lines.append(f"{at}\t{_prediction_text(task, prediction)}")
    path = Path(folder) / task.leaderboard_files[split]
    write_text(path, "\n".join(lines) + "\n")
    return path


def _prediction_text(task, prediction):
    if not task.regression:
        return task.file_labels[int(prediction)]
    if math.isnan(prediction):
        raise InputError(f"a prediction for {task.name} is NaN; the model has diverged, train it again")
    low, high = task.score_range
    decimals = max(3, 3 - math.floor(math.log10(high - low)))  # more for a narrow range
    return f"{min(max(float(prediction), low), high):.{decimals}f}"
