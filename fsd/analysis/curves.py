"""The curves of the relation differences during training, from a run's TensorBoard files."""

import logging

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from fsd.method.relations import RELATIONS
from fsd.system.errors import InputError, first_line

logger = logging.getLogger(__name__)


def read_curves(folder):
    """{"step": [n], and each name in ``RELATIONS``: [n]} of the scalars ``relations/…`` in a folder of event files.

    Returns None, with a warning, if the run logged none.

    Raises:
        InputError: the files cannot be read.
    """
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})  # 0 keeps all steps
    try:
        events.Reload()
        logged = set(events.Tags()[SCALARS])
        curves = [{event.step: event.value for event in events.Scalars(f"relations/{name}")}
                  for name in RELATIONS if f"relations/{name}" in logged]
    except Exception as error:  # TensorBoard raises many classes
        raise InputError(f"--curves {folder}: cannot read its event files: {first_line(error)}; name another folder") from error
    if len(curves) < len(RELATIONS):
        logger.warning("--curves %s: that run logged no relation differences; --log_relations does", folder)
        return None
    steps = sorted(set.intersection(*map(set, curves)))
    return {"step": steps} | {name: [curve[step] for step in steps] for name, curve in zip(RELATIONS, curves, strict=True)}
