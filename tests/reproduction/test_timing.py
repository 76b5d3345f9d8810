"""The hours that are left, from the rates of made-up rows."""

import pytest
from made_up_workplace import CONTENT, KD_ALONE, MadeUp

from fsd.reproduction.timing import Rates


@pytest.fixture
def made_up(tmp_path):
    return MadeUp(tmp_path / "re pro", CONTENT)


def test_hours_come_from_the_rate_of_what_is_done(made_up):
    plan = made_up.plan(**KD_ALONE)
    assert Rates(plan_that_looked(plan)).seconds_left(plan.look()) == 0  # no rate is known
    assert Rates(plan, 1).seconds_left(plan.look()) > 0
    few = KD_ALONE | {"settings": CONTENT["settings"] | {"max_steps": 100}}
    made_up.finish_all(until=lambda cell: cell.name.startswith("final/RTE/KD"), **few)
    plan = made_up.plan(**few)
    progress = plan.look()
    assert Rates(plan).seconds_left(progress) == 2 * 100 * 10 / 5  # two runs, made-up rows tell 10 s for 5 steps


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 249 + 312), (2, 125 + 156)])
def test_an_update_of_several_batches_is_one_step(made_up, accumulation, steps):
    """2,490 examples of RTE, and four fifths of them in the search, by 8 or 16: two runs of two epochs each."""
    settings = CONTENT["settings"] | {"gradient_accumulation_steps": accumulation}
    plan = made_up.plan(**KD_ALONE, settings=settings)
    assert Rates(plan_that_looked(plan), 1).seconds_left(plan.look()) == 2 * 2 * steps


@pytest.mark.parametrize("changes", [{"seconds": "long"}, {"steps": "0"}, {"steps": ""}, {"seconds": "nan"}])
def test_a_row_without_a_rate_gives_none(made_up, changes):
    made_up.finish_all(until=lambda cell: cell.kind == "student", **KD_ALONE)
    for cell in made_up.look(**KD_ALONE).ready:
        made_up.finish(cell, **changes)
    plan = made_up.plan(**KD_ALONE)
    assert Rates(plan_that_looked(plan)).seconds_left(plan.look()) == 0


def plan_that_looked(plan):
    plan.look()
    return plan
