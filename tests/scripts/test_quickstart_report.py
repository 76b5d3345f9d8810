"""The quickstart's table and figure, from runs as the scripts leave them."""

import runpy
import shutil
import struct

import pytest
from conftest import ROOT

from fsd.models.hub import find_model
from fsd.models.loading import load_pretrained
from fsd.models.student import parameter_count
from fsd.records.results import append_result
from fsd.records.tracking import Tracker
from fsd.system.files import write_json

SCORES = {"teacher": 0.9, "KD": 0.5, "PKD": 0.55, "MiniLM": 0.6, "RKD": 0.65, "FSD_ILG": 0.75}
LOSSES = {"PKD": ["pkd"], "RKD": ["rkd_distance", "rkd_angle"], "MiniLM": ["attention", "value_relation"], "FSD_ILG": ["intra"]}


@pytest.fixture
def runs(toy_glue, save_bert, tmp_path):
    """Finished runs: their results file, their TensorBoard folder, and where the figure goes."""
    flags = {"results_file": tmp_path / "results.csv", "run_file": tmp_path / "runs", "figure": tmp_path / "plots/all.png",
             "data_dir": toy_glue}
    for method, score in SCORES.items():
        folder = save_bert(tmp_path / method, "RTE", layers=4 if method == "teacher" else 2)
        write_json(folder / "training_args.json", {"arguments": {"max_seq_length": 32, "do_lower_case": True}})
        name = "fine-tuning" if method == "teacher" else method
        row = {"task": "RTE", "method": name, "output_dir": str(folder), "seed": 1, "seconds": 12.5}
        append_result(flags["results_file"], row | {"acc": score - 0.1, "run": f"earlier-{method}"})  # which does not count
        append_result(flags["results_file"], row | {"acc": score, "run": f"RTE-{name}-1"})
        tracker = Tracker(flags["run_file"], f"RTE-{name}-1")
        for step in (1, 2, 3):
            tracker.scalars("train", dict.fromkeys(["task_loss", "total", *LOSSES.get(method, [])], 1 / step), step)
        tracker.finish({}, {}, 3)
    return flags


def as_flags(runs):
    return [part for name, value in runs.items() for part in (f"--{name}", value)]


def test_table_and_figure(runs, run_script, tmp_path):
    ended = run_script("scripts/quickstart_report.py", "--no_cuda", *as_flags(runs))
    assert ended.status == 0, ended.err
    assert "left out: KD, earlier-KD: a later run of the method counts\n" in ended.out
    lines = [line.split() for line in ended.out.splitlines()]
    table = {line[0]: line[1:] for line in lines if line and line[0] in SCORES}
    assert list(table) == list(SCORES)
    for method, (accuracy, parameters, alone, batched, seconds) in table.items():
        assert float(accuracy) == SCORES[method]
        assert int(parameters.replace(",", "")) == parameter_count(load_pretrained(find_model(tmp_path / method, ""))[0])
        assert float(alone) > 0 and float(batched) > 0
        assert float(seconds) == 12.5
    picture = runs["figure"].read_bytes()
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG") and width > height > 900


def test_a_student_without_a_teacher_is_not_the_teacher_and_paths_are_beside_the_results(runs, run_script, tmp_path):
    row = {"task": "RTE", "method": "fine-tuning", "role": "student", "acc": 0.25, "seconds": 1.0, "run": "RTE-alone-1"}
    (tmp_path / "runs/RTE-KD-1").rename(tmp_path / "runs/RTE-alone-1")
    shutil.copytree(tmp_path / "runs/RTE-alone-1", tmp_path / "runs/RTE-KD-1")
    append_result(runs["results_file"], row | {"output_dir": "KD"})
    kept = tmp_path / "moved"
    kept.mkdir()
    for name in ("results.csv", "KD", "teacher", "FSD_ILG"):
        (tmp_path / name).rename(kept / name)
    text = (kept / "results.csv").read_text().replace(f"{tmp_path}/", "")
    (kept / "results.csv").write_text(text)
    ended = run_script("scripts/quickstart_report.py", "--no_cuda", *as_flags(runs | {"results_file": kept / "results.csv"}))
    assert ended.status == 0, ended.err
    scores = {line.split()[0]: line.split()[1] for line in ended.out.splitlines() if line.startswith(("teacher", "fine-tuning"))}
    assert scores == {"teacher": "0.900", "fine-tuning": "0.250"}


def test_runs_that_differ_in_more_than_the_method_are_left_out_and_told(tmp_path):
    path, students = tmp_path / "results.csv", {"task": "RTE", "role": "student", "seconds": 1, "teacher": "t2"}
    for name, cells in {
        "t1": {"method": "fine-tuning", "role": "teacher", "output_dir": "t1", "teacher": "", "seed": 1},
        "t2": {"method": "fine-tuning", "role": "teacher", "output_dir": "t2", "teacher": "", "seed": 1, "steps": 9},
        "other": {"method": "FSD_I", "seed": 1, "steps": 8, "alpha": 0.5},
        "old": {"method": "KD", "seed": 2, "steps": 7, "alpha": 0.5},
        "kd": {"method": "KD", "seed": 2, "steps": 7, "alpha": 0.5},
        "elsewhere": {"method": "FSD_L", "seed": 2, "steps": 7, "alpha": 0.5, "teacher": "t1"},
        "alone": {"method": "fine-tuning", "seed": 2, "steps": 7, "teacher": ""},
        "by name": {"method": "fine-tuning", "role": "teacher", "output_dir": "../../t2", "teacher": "", "seed": 1},
        "ilg": {"method": "FSD_ILG", "seed": 2, "steps": 7, "alpha": 0.5, "beta": 3, "gamma_g": 0.1},
    }.items():
        append_result(path, students | cells | {"run": name})
    results, left_out = runpy.run_path(str(ROOT / "scripts/quickstart_report.py"))["runs_to_compare"](path)
    assert {method: row["run"] for method, row in results.items()} == {
        "teacher": "by name", "fine-tuning": "alone", "KD": "kd", "FSD_ILG": "ilg"}
    assert left_out == [
        "teacher, t1: not the teacher of these students", "teacher, t2: a later run of the method counts",
        "FSD_I, other: seed 1 instead of 2, steps 8 instead of 7",
        "KD, old: a later run of the method counts", "FSD_L, elsewhere: teacher t1 instead of t2",
    ]


def test_runs_of_two_tasks_are_refused(runs, run_script, tmp_path):
    append_result(runs["results_file"], {"task": "CoLA", "method": "KD", "run": "CoLA-KD-1"})
    ended = run_script("scripts/quickstart_report.py", *as_flags(runs))
    assert ended.status == 2 and "on CoLA, RTE" in ended.last_line and not runs["figure"].exists()


def test_a_run_without_its_curves_is_refused(runs, run_script, tmp_path):
    ended = run_script("scripts/quickstart_report.py", *as_flags(runs | {"run_file": tmp_path / "elsewhere"}))
    assert ended.status == 2 and "no run RTE-fine-tuning-1 of teacher" in ended.last_line


def test_damaged_curves_are_told_in_one_line(runs, run_script, tmp_path, monkeypatch):
    def damaged(self):
        raise ValueError("bad record")

    monkeypatch.setattr("tensorboard.backend.event_processing.event_accumulator.EventAccumulator.Reload", damaged)
    ended = run_script("scripts/quickstart_report.py", *as_flags(runs))
    assert ended.status == 2 and "cannot read its event files: bad record" in ended.last_line


def test_no_results_file(runs, run_script, tmp_path):
    ended = run_script("scripts/quickstart_report.py", *as_flags(runs | {"results_file": tmp_path / "none.csv"}))
    assert ended.status == 2 and "no such file" in ended.last_line


def test_a_figure_over_another_file_is_refused(runs, run_script):
    before = runs["results_file"].read_bytes()
    ended = run_script("scripts/quickstart_report.py", *as_flags(runs | {"figure": runs["results_file"]}))
    assert ended.status == 2 and "--figure" in ended.last_line and runs["results_file"].read_bytes() == before
