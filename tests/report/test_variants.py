"""Runs of one method with several settings: which of them the tables show, and how they name the others."""

import json
from functools import partial

import pytest
from made_up_rows import analysis, cells, row, tables_of, write_reproduction

from fsd.report.notes import mixed_settings
from fsd.report.runs import read_reproduction
from fsd.system.errors import InputError


@pytest.fixture
def repro(tmp_path):
    """Call ``repro(rows, analyses=…, failed=…, chosen=…)``: a folder as scripts/reproduce.py leaves it."""
    return partial(write_reproduction, tmp_path / "repro")


def test_of_several_settings_one_is_in_the_tables_and_the_others_are_named(repro):
    """The plain form is the last that was run, and one change away from each of the others."""
    forms = {'{"beta": 1.0}': 0.6, '{"beta": 1.0, "debiased": true}': 0.2, '{"beta": 1.0, "similarity": "gram"}': 0.4}
    rows = [row(method, 1, acc=0.6, flags='{"debiased": false}') for method in ("PKD", "RKD", "KD")]
    rows += [row("FSD_ILG", seed, acc=score, flags=flags, run=f"{flags}{seed}")
             for flags, score in reversed(forms.items()) for seed in (1, 2)]
    analyses = [analysis(method, 1, run=run) for method, run in [("KD", "RTE-KD-1"), ("PKD", "RTE-PKD-1"), ("RKD", "RTE-RKD-1"),
                                                                *(("FSD_ILG", f"{flags}1") for flags in forms)]]
    tables = tables_of(repro(rows, analyses))
    assert cells(tables["table2"], "FSD")["RTE acc"] == "60.00 ± 0.00 (2)"
    note = "- Ours: several settings. Only those that the others differ least from are shown here: RTE FSD_ILG (3).\n"
    for name in ("table2", "table4", "table6", "table7"):
        assert note in tables[name].markdown(), name
    assert "several settings" not in tables["table3"].markdown() + tables["table5"].markdown()
    assert "mixed" not in "".join(table.markdown() for table in tables.values())


def test_the_settings_of_most_runs_and_then_the_latest_count_where_each_is_as_near(repro):
    rows = [row("KD", 1, acc=0.5, flags='{"alpha": 0.2}'), row("KD", 1, acc=0.6, flags='{"alpha": 0.5}')]
    assert cells(tables_of(repro(rows))["table2"], "VKD")["RTE acc"] == "60.00 (1)"
    rows.append(row("KD", 2, acc=0.5, flags='{"alpha": 0.2, "debiased": false, "memory_learning_rate": null}'))
    assert cells(tables_of(repro(rows))["table2"], "VKD")["RTE acc"] == "50.00 ± 0.00 (2)"


def test_rows_of_a_version_without_a_flag_have_its_default(repro):
    earlier = {"beta": 1.0, "gamma_m": 0.0, "debiased": False}
    later = earlier | {"similarity": "cka", "student_memory_init": "random", "memory_learning_rate": None}
    rows = [row("FSD_ILG", seed, acc=0.6, flags=json.dumps(flags)) for seed, flags in ((1, earlier), (2, earlier), (3, later))]
    tables = tables_of(repro(rows))
    assert cells(tables["table2"], "FSD")["RTE acc"] == "60.00 ± 0.00 (3)" and "settings" not in tables


def test_rows_whose_flags_are_not_known_are_no_main_settings(repro):
    flags = [json.dumps({"beta": beta}) for beta in (1.0, 2.0)]
    rows = [row("FSD_I", seed, acc=0.5, flags=text, run=str(seed)) for seed, text in enumerate([*flags, "", ""])]
    labels = [line.row for line in tables_of(repro(rows))["settings"].lines]
    assert labels[0] == "FSD_I" and sorted(labels[1:]) == ["FSD_I, beta 1.0", "FSD_I, settings not known"]
    with pytest.raises(InputError, match="row 1: flags is no JSON object"):
        tables_of(repro([row("KD", 1, acc=0.5, flags="abc")]))


def test_a_value_of_zero_is_a_value(repro):
    rows = [row("FSD_ILG", seed, acc=0.6, flags=json.dumps({"beta": 1.0, "gamma_m": gamma_m}), run=f"{seed}{gamma_m}")
            for seed, gamma_m in ((1, 1e-4), (2, 1e-4), (1, 0.0))]
    assert [line.row for line in tables_of(repro(rows))["settings"].lines] == ["FSD", "FSD, gamma_m 0.0"]


def test_students_of_different_shapes_are_settings_of_their_own(repro):
    rows = [row("KD", seed, acc=0.5, flags='{"alpha": 0.5}', student_layers=layers, run=f"{seed}{layers}")
            for seed, layers in ((1, 6), (1, 3), (2, 6))]
    tables = tables_of(repro(rows))
    assert cells(tables["table2"], "VKD")["RTE acc"] == "50.00 ± 0.00 (2)"
    assert [line.row for line in tables["settings"].lines] == ["VKD", "VKD, student_layers 3"]


def test_settings_without_a_batch_size_are_named(repro):
    rows = [row("KD", seed, acc=0.5, flags=json.dumps({"alpha": alpha}), batch_size="", run=f"{seed}{alpha}")
            for seed in (1, 2) for alpha in (0.2, 0.5)]
    tables = tables_of(repro(rows))
    assert "Ours: several settings" in tables["table2"].markdown() and "RTE KD (2)" in tables["table2"].markdown()


def test_mixed_settings_are_named(repro):
    runs = read_reproduction(repro([row("KD", 1, acc=0.6), row("KD", 2, acc=0.6)])).runs
    assert mixed_settings(runs) == []
    runs["flags"] = ['{"alpha": 0.5}', '{"alpha": 0.7}']
    assert mixed_settings(runs) == ["Ours: mixed settings. These have runs with different flags: RTE KD (2)."]


def test_settings_of_one_method_stand_beside_each_other(repro):
    """A flag that a row does not have counts as off."""
    plain, gram = json.dumps({"beta": 1.0}), json.dumps({"beta": 1.0, "debiased": True, "similarity": "gram"})
    rows = [row("FSD_I", seed, acc=score, flags=flags, run=f"{flags}{seed}")
            for flags, scores in ((plain, (0.6, 0.7)), (gram, (0.5,))) for seed, score in enumerate(scores)]
    analyses = [{"task": "RTE", "method": "FSD_I", "run": f"{gram}0", "seed": 0, "batch_size": 32,
                 "cka": {"map": [[0.9]], "mean_diagonal": 0.9, "chance_mean_diagonal": 0.8, "shuffled_mean_diagonal": 0.7}}]
    table = tables_of(repro([*rows, row("KD", 1, acc=0.6)], analyses))["settings"]
    assert [line.row for line in table.lines] == ["FSD_I", "FSD_I, debiased, similarity gram"]
    texts = [[text for text, _ in cells] for _, _, cells in table.cells()]
    assert texts == [["65.00 ± 7.07 (2)", "", ""], ["50.00 (1)", "90.00 (1)", "80.00 (1)"]]
    assert "settings" not in tables_of(repro([row("KD", 1, acc=0.6)]))


def test_the_settings_that_the_others_differ_least_from_have_the_name_alone(repro):
    changes = [{"similarity": "gram"}, {"debiased": True}, {}, {"gamma_m": 1, "normalize_distances": True}]
    rows = [row("FSD_ILG", 1, acc=0.5, flags=json.dumps({"beta": 1.0, "gamma_m": 0.1} | change), run=str(change))
            for change in changes]
    table = tables_of(repro(rows))["settings"]
    assert [line.row for line in table.lines] == [
        "FSD", "FSD, debiased", "FSD, gamma_m 1, normalize_distances", "FSD, similarity gram"]
    assert "FSD stands for gamma_m 0.1, no debiased, no normalize_distances, similarity cka on RTE." in table.notes
