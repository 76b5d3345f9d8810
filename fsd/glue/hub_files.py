"""GLUE as the Hugging Face hub has it: parquet files of the data set nyu-mll/glue, written as the official files."""

from pathlib import Path

from fsd.glue.layout import file_text
from fsd.system.errors import InputError

REPOSITORY = "nyu-mll/glue"
FOLDERS = {"SST-2": "sst2", "STS-B": "stsb"}  # the others have their task's name in lower case
SPLITS = {"dev": "validation", "dev-mm": "validation_mismatched", "test-mm": "test_mismatched", "ax": "test"}
MNLI_SPLITS = {"dev": "validation_matched", "test": "test_matched"}
TEXTS = {"MNLI": ("premise", "hypothesis"), "MRPC": ("sentence1", "sentence2")}  # the others are named as in the official files
MNLI_LABELS = ("entailment", "neutral", "contradiction")  # the others are numbered as in the official files


def parquet_name(task, split):
    """The path of a split's file in the data set."""
    folder = "ax" if split == "ax" else FOLDERS.get(task.name, task.name.lower())
    name = (MNLI_SPLITS if task.name == "MNLI" else {}).get(split) or SPLITS.get(split, split)
    return f"{folder}/{name}-00000-of-00001.parquet"


def download_parquet(task, split, revision):
    """(path, commit) of a split's file, which huggingface_hub keeps in its cache. ``HF_ENDPOINT`` names a mirror.

    Raises:
        InputError: it is not there, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    name = parquet_name(task, split)
    try:
        path = Path(hf_hub_download(REPOSITORY, name, repo_type="dataset", revision=revision))
    except Exception as error:  # many classes, from unknown revisions to broken connections
        words = " ".join(str(error).split())
        raise InputError(f"{REPOSITORY}: {name} of {revision}: {words}; check --revision and the network") from error
    return path, path.parents[1].name  # …/snapshots/COMMIT/FOLDER/FILE


def official_text(task, split, path):
    """The text of the official file of ``split``, from its parquet file. What the hub has not, such as sources, is empty.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a label that the task has not.
    """
    import pandas

    labelled = split not in task.test_splits
    texts = TEXTS.get(task.name, task.text_columns)
    try:
        frame = pandas.read_parquet(path, engine="pyarrow", columns=[*texts, "idx", *(["label"] if labelled else [])])
    except Exception as error:  # pyarrow raises many classes for a damaged file or a missing column
        raise InputError(f"{parquet_name(task, split)}: cannot read it ({' '.join(str(error).split())})") from error
    if frame.isna().any(axis=None):
        raise InputError(f"{parquet_name(task, split)}: a cell is empty; name another --revision")
    rows = []
    for values in frame.itertuples(index=False, name=None):
        cells = dict(zip(task.text_columns, values, strict=False)) | dict.fromkeys(("index", "id"), values[len(texts)])
        if labelled:
            label = _label_text(task, values[-1], f"{parquet_name(task, split)}: row {len(rows)}")
            cells |= {task.label_column: label, "label1": label}
        rows.append(cells)
    return file_text(task.name, split, rows)


def _label_text(task, label, where):
    import numpy

    if task.regression:
        text = f"{label:.3f}"  # as most official scores are written; the hub rounds the others to float32
        return text if numpy.float32(text) == numpy.float32(label) else str(numpy.float32(label))
    names = MNLI_LABELS if task.name == "MNLI" else task.file_labels
    if label not in range(len(names)):
        raise InputError(f"{where}: the label {label} is none of {task.name}'s")
    return names[int(label)]
