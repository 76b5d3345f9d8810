"""The search for settings: what is tried, and what is chosen, from scores that are written by hand."""

import json

import pytest
from made_up_workplace import CONTENT, KD_ALONE, STAGES, MadeUp, finish_first, flag, rows, short

from fsd.system.errors import InputError


@pytest.fixture
def made_up(tmp_path):
    return MadeUp(tmp_path / "re pro", CONTENT)


def test_the_search_uses_held_out_data_and_a_teacher_of_its_own(made_up):
    finish_first(made_up, "held-out")
    teacher = finish_first(made_up, "search/RTE/teacher")
    assert flag(teacher, "data_dir") == str(made_up.folder / "held-out")
    cells = made_up.look().ready
    assert [short(cell) for cell in cells] == [
        "search/RTE/KD/alpha0.2-num_train_epochs2/seed-1", "search/RTE/KD/alpha0.5-num_train_epochs2/seed-1", "final/RTE/teacher",
    ]
    for cell in cells[:2]:
        assert flag(cell, "data_dir") == str(made_up.folder / "held-out") and flag(cell, "results_file").endswith("search.csv")
        assert flag(cell, "model_name_or_path") == str(teacher.folder) and len(cell.commands) == 1
        assert {"--resume", "--copy_teacher", "--do_eval"} <= set(cell.commands[0])
    assert flag(cells[2], "data_dir") == str(made_up.folder / "glue") and flag(cells[2], "results_file").endswith("results.csv")


def test_the_best_setting_is_kept_and_references_are_resolved(made_up):
    best = {("KD", "alpha", 0.2), ("FSD_I", "beta", 4.0), ("FSD_G", "gamma_m", 0.5), ("FSD_ILG", "gamma_i", 4.0)}

    def score(cell):
        return 0.9 if any(cell.method == method and cell.flags.get(name) == value for method, name, value in best) else 0.4

    made_up.finish_all(score, until=lambda cell: cell.name.startswith("final") and cell.kind == "student")
    progress = made_up.look()
    assert progress.chosen["RTE"] == {
        "fine-tuning": {},  # it has no alpha
        "KD": {"alpha": 0.2, "num_train_epochs": 2}, "FSD_I": {"alpha": 0.2, "beta": 4},
        "FSD_G": {"alpha": 0.2, "beta": 1, "gamma_m": 0.5},  # 0.1 × 5; 1 is not chosen in the first stage
        "FSD_ILG": {"alpha": 0.2, "beta": 1, "gamma_m": 0.5, "gamma_i": 4},
    }
    assert progress.counts["search of FSD_ILG"]["all"] == 2  # gamma_i 4 is there already


def test_values_of_a_finer_grid_that_leave_the_range_are_left_out(made_up):
    def score(cell):
        return 0.9 if cell.flags and cell.flags.get("gamma_m") == 1 else 0.4

    made_up.finish_all(score, until=lambda cell: cell.name.startswith("final"), methods=["FSD_G"])
    tried = [json.loads(row["flags"])["gamma_m"] for row in rows(made_up, "search.csv") if row["method"] == "FSD_G"]
    assert sorted(tried) == [0.1, 0.5, 1]  # 1 × 1 is done already, 1 × 5 is above 1


def test_an_edited_grid_tries_only_what_is_new(made_up):
    made_up.finish_all(lambda cell: cell.flags.get("alpha", 0) if cell.flags else 0, **KD_ALONE)
    wider = {"methods": ["KD"], "stages": [STAGES[0] | {"grid": {"alpha": [0.2, 0.5, 0.7], "num_train_epochs": [2]}}]}
    assert made_up.ready(**wider) == ["search/RTE/KD/alpha0.7-num_train_epochs2/seed-1"]
    made_up.finish_all(lambda cell: 0.1, **wider)
    assert made_up.ready(**wider) == [] and made_up.look(**wider).chosen["RTE"]["KD"]["alpha"] == 0.5


def test_a_setting_that_failed_is_counted_and_the_best_of_the_others_is_chosen(made_up):
    made_up.finish_all(until=lambda cell: cell.name.startswith("search/RTE/KD"), **KD_ALONE)
    first, second = (cell for cell in made_up.look(**KD_ALONE).ready if cell.method == "KD")
    assert [cell.name for cell in made_up.look([first.name], **KD_ALONE).ready] == [second.name]
    made_up.finish(second)
    progress = made_up.look([first.name], **KD_ALONE)
    assert progress.counts["search of KD"] == {"all": 2, "done": 1, "failed": 1}
    assert progress.chosen["RTE"]["KD"]["alpha"] == 0.5 and progress.counts["final runs"]["all"] == 2
    # In a later call, which tries it again, nothing is chosen before it has ended.
    assert made_up.look(**KD_ALONE).chosen["RTE"] == {}


def test_a_method_whose_settings_all_failed_is_named(made_up):
    made_up.finish_all(until=lambda cell: cell.name.startswith("search/RTE/KD"))
    failed = [cell.name for cell in made_up.look().ready if cell.method == "KD"]
    progress = made_up.look(failed)
    assert progress.ready == [] and list(progress.stuck) == ["RTE/KD"]
    assert progress.counts["final runs"] == {"all": 10}


@pytest.mark.parametrize("score", ["nan", "inf", ""])
def test_a_score_that_is_no_finite_number_chooses_nothing(made_up, score):
    made_up.finish_all(lambda cell: score if cell.kind == "student" and cell.flags["alpha"] == 0.2 else 0.1, **KD_ALONE)
    assert made_up.look(**KD_ALONE).chosen["RTE"]["KD"]["alpha"] == 0.5
    other = MadeUp(made_up.folder.parent / "other", CONTENT)
    other.finish_all(lambda cell: score, **KD_ALONE)
    assert list(other.look(**KD_ALONE).stuck) == ["RTE/KD"]


def test_chosen_values_replace_the_search(made_up):
    given = {"RTE": {"KD": {"alpha": 0.7, "num_train_epochs": 1}}}
    progress = made_up.look(methods=["KD"], given=given)
    assert [short(cell) for cell in progress.ready] == ["final/RTE/teacher"] and progress.counts["final runs"]["all"] == 2
    made_up.finish_all(methods=["KD"], given=given)
    assert {json.loads(row["flags"])["alpha"] for row in rows(made_up, "results.csv") if row["role"] == "student"} == {0.7}
    assert not (made_up.folder / "search.csv").exists()
    with pytest.raises(InputError, match="no values for FSD_I on RTE"):
        made_up.plan(methods=["KD", "FSD_I"], given=given)


def test_selection_on_dev_never_takes_held_out_scores(made_up):
    made_up.finish_all(lambda cell: cell.flags.get("alpha", 0) if cell.flags else 0, **KD_ALONE)
    ready = made_up.look(on_dev=True, **KD_ALONE).ready
    assert [short(cell) for cell in ready] == [f"search-dev/RTE/KD/alpha{alpha}-num_train_epochs2/seed-1" for alpha in (0.2, 0.5)]
    for cell in ready:  # as final runs: all training data, and their teacher
        assert flag(cell, "data_dir") == str(made_up.folder / "glue")
        assert "/final/RTE/teacher-" in flag(cell, "model_name_or_path")
        assert flag(cell, "results_file").endswith("search-dev.csv") and len(cell.commands) == 1
    plan = made_up.plan(on_dev=True, **KD_ALONE)
    assert plan.selected_on == "dev" and "held-out data" not in plan.look().counts


def test_narrowing_to_a_method_pulls_in_the_stages_that_it_depends_on(made_up):
    progress = made_up.look(methods=["FSD_ILG"], seeds=[2])
    searched = [stage for stage in progress.counts if stage.startswith("search of")]
    assert searched == ["search of KD", "search of FSD_I", "search of FSD_G", "search of FSD_ILG"]
    assert progress.counts["final runs"]["all"] == 1
    assert "search of FSD_I" not in made_up.look(methods=["FSD_G"]).counts
    made_up.finish_all(methods=["fine-tuning"], seeds=[2])
    assert {row["seed"] for row in rows(made_up, "search.csv") if row["role"] == "student"} == {"1"}  # the experiment's first


@pytest.mark.parametrize(("score", "words"), [("0,5", "'0,5', not a number"), ("62.5", "62.5; a score is a fraction")])
def test_a_score_that_cannot_be_one_is_told(made_up, score, words):
    finish_first(made_up, "held-out", **KD_ALONE)
    finish_first(made_up, "search/RTE/teacher", **KD_ALONE)
    finish_first(made_up, "search/RTE/KD", score=score, **KD_ALONE)
    with pytest.raises(InputError, match=f"search.csv: KD on RTE, .*: acc is {words}"):
        made_up.look(**KD_ALONE)


def test_a_search_over_names_chooses_one(tmp_path):
    stages = [{"method": "FSD_I", "grid": {"similarity": ["cka", "gram"]}},
              {"method": "FSD_L", "grid": {"similarity": ["FSD_I.similarity"], "beta": [1, 2]}}]
    content = {"tasks": ["RTE"], "methods": ["FSD_I", "FSD_L"], "seeds": [1], "stages": stages}
    made_up = MadeUp(tmp_path / "re", content)
    made_up.finish_all(lambda cell: 0.9 if (cell.flags or {}).get("similarity") == "gram" else 0.5)
    chosen = made_up.look().chosen["RTE"]
    assert chosen["FSD_I"] == {"similarity": "gram"} and chosen["FSD_L"]["similarity"] == "gram"
