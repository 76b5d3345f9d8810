"""What an experiment still has to do, from rows and files that are written by hand."""

import csv
import json
import shutil

import pytest
import torch
from made_up_workplace import CONTENT, KD_ALONE, STAGES, MadeUp, finish_first, flag, rows, short
from safetensors.torch import save_file

from fsd.reproduction import cells
from fsd.system.errors import InputError


@pytest.fixture
def made_up(tmp_path):
    return MadeUp(tmp_path / "re pro", CONTENT)


def test_at_first_data_are_held_out_and_the_final_teacher_is_trained(made_up):
    progress = made_up.look()
    assert [short(cell) for cell in progress.ready] == ["held-out/RTE", "final/RTE/teacher"]
    counts = {stage: tuple(count[state] for state in ("all", "done", "failed")) for stage, count in progress.counts.items()}
    assert counts == {
        "held-out data": (1, 0, 0), "teachers (search)": (1, 0, 0), "memories (search)": (1, 0, 0), "search of KD": (2, 0, 0),
        "search of FSD_I": (2, 0, 0), "search of FSD_G": (5, 0, 0), "search of FSD_ILG": (3, 0, 0),
        "teachers (final)": (1, 0, 0), "memories (final)": (1, 0, 0), "final runs": (10, 0, 0), "teachers (analysis)": (1, 0, 0),
    }


def test_a_flag_of_a_later_version_makes_no_new_teacher_or_memory(made_up, monkeypatch):
    def teacher_and_memory():
        workplace = made_up.plan().workplace
        return workplace.teacher("final", "RTE"), workplace.memory("final", "RTE", {"max_seq_length": 32, "mask_padding": True})

    before = teacher_and_memory()
    identity, defaults = cells.identity, cells.defaults
    monkeypatch.setattr(cells, "identity", lambda *words: identity(*words) | {"of_a_later_version": False})
    monkeypatch.setattr(cells, "defaults", lambda method: defaults(method) | {"of_a_later_version": False})
    after = teacher_and_memory()
    assert after[0].flags["of_a_later_version"] is False and [cell.name for cell in after] == [cell.name for cell in before]


def test_looking_writes_nothing(made_up):
    made_up.look()
    assert not made_up.folder.exists()


def test_finals_go_by_rounds_of_seeds(made_up):
    made_up.finish_all(until=lambda cell: cell.name.startswith("final/RTE/") and cell.kind == "student")
    seeds = [cell.seed for cell in made_up.look().ready]
    assert seeds == [1] * 5 + [2] * 5


def test_a_final_run_is_followed_by_its_analysis(made_up):
    made_up.finish_all(until=lambda cell: cell.name.startswith("final/RTE/KD"), methods=["KD"])
    cell = made_up.look(methods=["KD"]).ready[0]
    training, analysis = cell.commands
    assert training[0] == "run_glue_intra_inter.py" and "--log_relations" in training and analysis[0] == "scripts/analyse.py"
    assert flag(cell, "student_model_name_or_path", 1) == str(cell.folder) and flag(cell, "max_seq_length", 1) == "32"
    assert flag(cell, "output_file", 1).startswith(str(made_up.folder / "analysis/RTE-KD-alpha"))
    assert "--mask_padding" in analysis


def test_a_run_without_its_analysis_is_not_done_while_it_can_still_be_made(made_up):
    made_up.finish_all(methods=["KD"])
    for path in (made_up.folder / "analysis").glob("RTE-KD*"):
        path.unlink()
    cells = made_up.look(methods=["KD"]).ready
    assert [cell.seed for cell in cells] == [1, 2] and all("--resume" in cell.commands[0] for cell in cells)
    for cell in cells:
        (cell.folder / "model.safetensors").unlink()
    assert made_up.ready(methods=["KD"]) == []


def test_all_is_done_in_the_end_and_counts_stay(made_up):
    before = {stage: count["all"] for stage, count in made_up.look().counts.items()}
    made_up.finish_all(lambda cell: cell.flags.get("beta", 0) / 10 if cell.flags else 0)
    progress = made_up.look()
    assert progress.ready == [] and progress.to_come == [] and progress.stuck == {}
    assert all(count["all"] == count["done"] for count in progress.counts.values())
    after = {stage: count["all"] for stage, count in progress.counts.items()}
    # Duplicates are dropped, once the values are known.
    assert after | {"search of FSD_ILG": 3, "search of FSD_G": 5} == before


def test_a_row_that_was_carried_elsewhere_counts(made_up, tmp_path):
    made_up.finish_all(methods=["KD"])
    elsewhere = MadeUp(tmp_path / "elsewhere", CONTENT)
    elsewhere.folder.mkdir()
    for name in ("results.csv", "search.csv"):
        shutil.copy(made_up.folder / name, elsewhere.folder)
    progress = elsewhere.look(methods=["KD"])
    assert progress.ready == [] and progress.to_come == []
    assert all(count["all"] == count["done"] for count in progress.counts.values())


def test_a_teacher_that_is_gone_is_made_again_where_a_cell_needs_it(made_up):
    made_up.finish_all(methods=["KD"], seeds=[1])
    shutil.rmtree(next((made_up.folder / "final/RTE").glob("teacher-*")))
    assert made_up.ready(methods=["KD"], seeds=[1]) == []
    assert made_up.ready(methods=["KD"]) == ["final/RTE/teacher"]
    finish_first(made_up, "final/RTE/teacher", methods=["KD"])
    assert made_up.ready(methods=["KD"]) == ["final/RTE/KD/alpha0.2-num_train_epochs2/seed-2"]


def test_a_memory_of_another_teacher_is_built_again(made_up):
    made_up.finish_all(methods=["FSD_G"], seeds=[1])
    assert made_up.ready(methods=["FSD_G"]) == ["final/RTE/FSD_G/alpha0.2-beta1-gamma_m0.05/seed-2"]
    teacher = next((made_up.folder / "final/RTE").glob("teacher-*/model.safetensors"))
    save_file({"weight": torch.tensor([7.5])}, teacher)
    assert made_up.ready(methods=["FSD_G"]) == ["final/RTE/memory"]
    (cell,) = made_up.look(methods=["FSD_G"]).ready
    assert "--overwrite_output_dir" in cell.commands[0]
    for damaged in (b"", b"\xff" * 40):
        (cell.folder / "memory.safetensors").write_bytes(damaged)
        assert made_up.ready(methods=["FSD_G"]) == ["final/RTE/memory"]


@pytest.mark.parametrize("changed", [{"teacher": {"num_train_epochs": 9}}, {"memory": {"num_centroid": 7}}])
def test_a_student_of_another_teacher_or_memory_is_not_taken_for_done(made_up, changed):
    made_up.finish_all(methods=["FSD_G"], seeds=[1])
    (name,) = changed
    with pytest.raises(InputError, match=f"was trained with {name}-.*, and this experiment's settings give {name}-"):
        made_up.look(methods=["FSD_G"], seeds=[1], **changed)


def test_a_finished_run_whose_row_is_gone_starts_anew(made_up):
    made_up.finish_all(methods=["KD"])
    (made_up.folder / "results.csv").unlink()
    (teacher,) = made_up.look(methods=["KD"]).ready
    assert teacher.kind == "teacher" and "--resume" not in teacher.commands[0]  # it would take itself for done
    assert "--overwrite_output_dir" in teacher.commands[0]
    path = teacher.folder / "training_args.json"
    path.write_text(json.dumps({"run": "x", "finished": False, "settings": {}}))
    assert "--resume" in made_up.look(methods=["KD"]).ready[0].commands[0]


def test_an_older_row_without_a_later_flag_counts_with_the_default(made_up):
    made_up.finish_all(**KD_ALONE)
    path = made_up.folder / "results.csv"
    table = rows(made_up, "results.csv")

    def write(change):
        changed = [dict(row, flags=json.dumps(change(json.loads(row["flags"])))) for row in table]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(changed)

    def without(name):
        return lambda flags: {key: value for key, value in flags.items() if key != name}

    write(without("warmup_steps"))  # has its default in the cell
    assert made_up.ready(**KD_ALONE) == []
    write(without("max_seq_length"))  # has not
    assert "final/RTE/teacher" in made_up.ready(**KD_ALONE)
    write(lambda flags: flags | {"of_a_later_version": 1})
    assert "final/RTE/teacher" in made_up.ready(**KD_ALONE)
    for text in ("", "[", "[1]", "null"):
        changed = [dict(row, flags=text) for row in table]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(changed)
        assert "final/RTE/teacher" in made_up.ready(**KD_ALONE)


def test_other_settings_are_not_done(made_up):
    made_up.finish_all(**KD_ALONE)
    other = KD_ALONE | {"settings": CONTENT["settings"] | {"weight_decay": 0.01}}
    assert made_up.ready(**other) == ["search/RTE/teacher", "final/RTE/teacher"]
    # The teachers of both experiments lie side by side, so that neither disturbs the other.
    made_up.finish_all(**other)
    assert made_up.ready(**KD_ALONE) == [] and made_up.ready(**other) == []
    assert len(list((made_up.folder / "final/RTE").glob("teacher-????????"))) == 2


def test_a_teacher_that_failed_stops_its_task_alone(made_up):
    two = KD_ALONE | {"tasks": ["RTE", "MRPC"]}
    made_up.finish_all(until=lambda cell: "search/RTE" in cell.name, **two)
    (teacher,) = (cell for cell in made_up.look(**two).ready if cell.kind == "teacher")
    progress = made_up.look([teacher.name], **two)
    assert progress.ready == [] and progress.counts["teachers (search)"] == {"all": 2, "done": 1, "failed": 1}
    assert progress.counts["final runs"] == {"all": 4, "done": 2}


def test_variants_are_settings_of_final_runs(made_up):
    changes = {"methods": ["FSD_G"], "stages": STAGES[2:3], "variants": [{"max_seq_length": 16}, {}]}
    made_up.finish_all(until=lambda cell: cell.name.startswith("final/RTE/FSD"), **changes)
    cells = made_up.look(**changes).ready
    assert [(cell.flags["max_seq_length"], cell.seed) for cell in cells] == [(16, 1), (32, 1), (16, 2), (32, 2)]
    assert len({flag(cell, "teacher_memory_path") for cell in cells}) == 2  # a memory has a length


def test_variants_that_differ_only_in_flags_that_a_method_lacks_are_one(made_up):
    changes = {"methods": ["KD", "FSD_I"], "stages": [], "variants": [{}, {"debiased": True}, {"beta": 3}], "memory": {}}
    made_up.finish_all(until=lambda cell: cell.kind == "student", **changes)
    cells = made_up.look(**changes).ready
    assert [(cell.method, cell.seed) for cell in cells].count(("KD", 1)) == 1
    assert len(cells) == len({cell.name for cell in cells}) == 8
    assert made_up.look(**changes).counts["final runs"]["all"] == 8


def test_a_method_without_what_it_cannot_do_without_is_refused(made_up):
    with pytest.raises(InputError, match="PKD on RTE: --method pkd needs --beta"):
        made_up.plan(methods=["PKD"])
    made_up.plan(methods=["PKD"], stages=[{"method": "PKD", "grid": {"beta": [10]}}])
    made_up.plan(methods=["PKD"], given={"RTE": {"PKD": {"beta": 10}}})


def test_cuda_graphs_are_given_where_they_work_and_identify_no_run(made_up):
    changes = {"methods": ["FSD_I", "FSD_L"], "stages": [], "given": {"RTE": {"FSD_I": {}, "FSD_L": {}}}, "seeds": [1],
               "variants": [{}, {"similarity": "procrustes"}, {"gradient_accumulation_steps": 2}]}
    made_up.finish_all(until=lambda cell: cell.kind == "student", cuda_graphs=True, **changes)
    with_graphs, without = ([cell for cell in made_up.look(cuda_graphs=graphs, **changes).ready if cell.kind == "student"]
                            for graphs in (True, False))
    assert [cell.flags for cell in with_graphs] == [cell.flags for cell in without]
    given = {(cell.flags["similarity"], cell.flags["gradient_accumulation_steps"]): "--cuda_graphs" in cell.commands[0]
             for cell in with_graphs}
    assert given == {("cka", 1): True, ("procrustes", 1): False, ("cka", 2): False}
    assert not any("--cuda_graphs" in cell.commands[0] for cell in without)


def test_relative_folders_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    made_up = MadeUp(tmp_path / "x", CONTENT)
    made_up.folder = made_up.folder.relative_to(tmp_path)
    for cell in made_up.look().ready:
        assert flag(cell, "data_dir") == str(tmp_path / "x/glue")
    assert flag(made_up.look().ready[1], "model_name_or_path") == str(tmp_path / "base")


def test_the_structures_other_forms_reach_the_programs_and_no_others(tmp_path):
    forms = {"similarity": "gram", "normalize_distances": True, "memory_learning_rate": 0.1, "student_memory_init": "centroids"}
    methods = ["fine-tuning", "KD", "FSD_I", "FSD_IL", "FSD_G", "FSD_ILG"]
    made_up = MadeUp(tmp_path / "re", {"tasks": ["RTE"], "methods": methods, "seeds": [1], "settings": forms})
    made_up.finish_all(given={"RTE": dict.fromkeys(methods, {})}, until=lambda cell: cell.kind == "student")
    commands = {cell.method: cell.commands[0] for cell in made_up.look(given={"RTE": dict.fromkeys(methods, {})}).ready}
    for method, command in commands.items():
        given = {name for name in forms if f"--{name}" in command}
        assert given == {"FSD_I": {"similarity"}, "FSD_IL": {"similarity"}, "FSD_G": set(forms), "FSD_ILG": set(forms)}.get(
            method, set())
    assert "gram" in commands["FSD_I"] and commands["FSD_G"][commands["FSD_G"].index("--student_memory_init") + 1] == "centroids"


@pytest.mark.parametrize("settings, words", [
    ({"similarity": "gram", "debiased": True}, "FSD_G on RTE: --debiased is a form of CKA"),
    ({"normalize_distances": True, "gamma_m": 0}, "FSD_G on RTE: --normalize_distances: with --gamma_m 0"),
    ({"group_by_length": True}, "FSD_G on RTE: --group_by_length needs --mask_padding"),
    ({"fp16": True, "bf16": True}, "FSD_G on RTE: --fp16 and --bf16 exclude each other"),
    ({"student_memory_init": "centroids", "max_train_samples": 8}, "FSD_G on RTE: student_memory_init = centroids needs"),
])
def test_forms_that_exclude_each_other_are_told_before_anything_runs(tmp_path, settings, words):
    made_up = MadeUp(tmp_path / "re", {"tasks": ["RTE"], "methods": ["FSD_G"], "seeds": [1], "settings": settings})
    with pytest.raises(InputError, match=words):
        made_up.plan(given={"RTE": {"FSD_G": {}}})
