"""The curves of a run, from its TensorBoard files."""

import logging

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from fsd.method.relations import RELATIONS
from fsd.system.errors import InputError, first_line

logger = logging.getLogger(__name__)


def read_scalars(folder, group, flag):
    """{name: {step: value}} of the scalars ``group/name`` in a folder of event files that ``flag`` names.

    Raises:
        InputError: the files cannot be read.
    """
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})  # 0 keeps all steps
    try:
        events.Reload()
        tags = [tag for tag in events.Tags()[SCALARS] if tag.startswith(f"{group}/")]
        return {tag.removeprefix(f"{group}/"): {event.step: event.value for event in events.Scalars(tag)} for tag in tags}
    except Exception as error:  # TensorBoard raises many classes
        raise InputError(f"{flag} {folder}: cannot read its event files: {first_line(error)}; name another folder") from error


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
