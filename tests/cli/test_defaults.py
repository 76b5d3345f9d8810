"""A run that is set up in Python trains as one from the command line does."""

from dataclasses import asdict

import pytest

from fsd.reproduction.programs import PROGRAMS, defaults
from fsd.training.run import TrainingSettings


@pytest.mark.parametrize("method", ["teacher", *PROGRAMS])
def test_flags_and_training_settings_have_the_same_defaults(method):
    of_flags, of_settings = defaults(method), asdict(TrainingSettings())
    shared = of_flags.keys() & of_settings.keys()
    assert len(shared) > 15 and {name: of_flags[name] for name in shared} == {name: of_settings[name] for name in shared}
