"""Refuses to add runs to those of another model or of other data: tables would mix them."""

from pathlib import Path

from fsd.glue.files import find_split
from fsd.glue.origin import split_source
from fsd.glue.tasks import find_task
from fsd.records.results import read_results, row_flags
from fsd.system.errors import InputError
from fsd.system.hashes import file_hash

ELSEWHERE = "give another --output_dir, or the one that its runs were made with"


def check_sources(workplace, tasks):
    """Raise an ``InputError`` if the runs that are there start from another model, or were trained on other data.

    Models are compared by the last part of their name, as rows of another machine have another path.

    Args:
        workplace: :class:`fsd.reproduction.cells.Workplace`.
        tasks: names of the tasks whose training data are compared.
    """
    training_files = {task: find_split(find_task(task), workplace.data_dir, "train") for task in tasks}
    hashes = {task: file_hash(path) for task, path in training_files.items()}
    for task, own in hashes.items():
        folder = workplace.output_dir / "held-out" / task
        if split_source(folder) not in ("", own):
            raise InputError(f"{folder} was split from another file than {training_files[task]}; {ELSEWHERE}")
    for place in ("search", "final"):
        path = workplace.results(place)
        for row in read_results(path):
            base = row["copied_from"]
            if base and Path(base).name != Path(workplace.base).name:
                raise InputError(f"--model_name_or_path {workplace.base}: {path} has runs that start from {base}; {ELSEWHERE}")
            on_held_out = place == "search" and not workplace.select_on_dev
            on_all = row_flags(row).get("max_train_samples") == -1
            if on_all and not on_held_out and row["train_data"] not in ("", hashes.get(row["task"], row["train_data"])):
                raise InputError(f"--data_dir {workplace.data_dir}: {path} has runs on other training data of {row['task']}; "
                                 f"{ELSEWHERE}")
