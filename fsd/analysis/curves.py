"""The curves of a run, from its TensorBoard files."""

import logging
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from tensorboard.compat.tensorflow_stub.errors import DataLossError, OutOfRangeError
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

from fsd.method.relations import RELATIONS
from fsd.system.errors import InputError, first_line

logger = logging.getLogger(__name__)


def read_scalars(folder, group, flag):
    """{name: {step: value}} of the scalars ``group/name`` in a folder of event files that ``flag`` names.

    Raises:
        InputError: the files cannot be read, or are damaged.
    """
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})  # 0 keeps all steps
    try:
        for path in sorted(Path(folder).glob("*tfevents*")):
            check_records(path)
        events.Reload()
        tags = [tag for tag in events.Tags()[SCALARS] if tag.startswith(f"{group}/")]
        return {tag.removeprefix(f"{group}/"): {event.step: event.value for event in events.Scalars(tag)} for tag in tags}
    except Exception as error:  # TensorBoard raises many classes
        advice = "restore them, or name another folder"
        raise InputError(f"{flag} {folder}: cannot read its event files: {first_line(error)}; {advice}") from error


def check_records(path):
    """ValueError if an event file is damaged: TensorBoard drops what follows without a word. A last record that was not
    written to its end is none of that: the run was killed."""
    if not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")
    reader = PyRecordReader_New(str(path))
    try:
        while True:
            reader.GetNext()
    except OutOfRangeError:
        return
    except DataLossError as error:
        if "crc32" in str(error):
            raise ValueError(f"{path.name} is damaged") from error


def read_curves(folder):
    """{"step": [n], and each name in ``RELATIONS``: [n]} of the relation differences in a folder of event files.

    Returns None, with a warning, if the run logged none.

    Raises:
        InputError: the files cannot be read.
    """
    curves = read_scalars(folder, "relations", "--curves")
    if not curves.keys() >= set(RELATIONS):
        logger.warning("--curves %s: that run logged no relation differences; --log_relations does", folder)
        return None
    steps = sorted(set.intersection(*(set(curves[name]) for name in RELATIONS)))
    return {"step": steps} | {name: [curves[name][step] for step in steps] for name in RELATIONS}
