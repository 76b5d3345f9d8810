"""Which rows a model or a memory was trained on, so that no score is taken on rows that it has seen."""

import logging
from dataclasses import dataclass
from pathlib import Path

from fsd.system.errors import InputError
from fsd.system.files import read_json

logger = logging.getLogger(__name__)

SPLIT_FILE = "split.json"  # scripts/hold_out.py writes it beside the parts of a training file


@dataclass(frozen=True)
class DataOrigin:
    """Hashes of training data; "" where it is not known.

    Attributes:
        rows: of the rows, which may be a subset of the file's.
        file: of the training file.
        split_of: of the training file that this one is a part of, if ``scripts/hold_out.py`` made it.
    """

    rows: str = ""
    file: str = ""
    split_of: str = ""


def split_source(folder):
    """The hash of the training file that a folder's files are parts of, or "" if they are whole.

    Raises:
        InputError: the folder's ``split.json`` is damaged.
    """
    path = Path(folder) / SPLIT_FILE
    if not path.exists():
        return ""
    record = read_json(path)
    source = record.get("source") if isinstance(record, dict) else None
    if not isinstance(source, str) or not source:
        raise InputError(f"{path}: it has no source as scripts/hold_out.py writes it; split the data again")
    return source


def check_origin(what, origin, training):
    """:func:`check_not_seen`, and a warning if it was trained on other rows than ``training``."""
    check_not_seen(what, origin, training)
    if origin.rows and origin.rows != training.rows:
        logger.warning("%s was trained on other rows than this run's training set", what)


def check_not_seen(what, origin, training):
    """Refuse what has seen rows that ``training``'s data hold out.

    Args:
        what: names it in the message.
        origin: its :class:`DataOrigin`.
        training: the :class:`DataOrigin` of this run's training set.

    Raises:
        InputError: this run's data are held out of a file, and it was trained on all of that file or on another part.
    """
    is_part = training.split_of and origin.split_of == training.split_of
    if training.split_of and (origin.file == training.split_of or is_part and origin.file != training.file):
        seen = "all of the file that" if origin.file == training.split_of else "another split of the file that"
        raise InputError(f"{what} was trained on {seen} --data_dir holds rows out of: it has seen them; train it on this split")
