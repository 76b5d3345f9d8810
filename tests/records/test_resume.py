"""Runs that are killed, stopped, resubmitted, or share their files: nothing is lost, nothing is there twice."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from resumable import assert_same_results, stop_in_step
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsd.records.resuming import locked_output_dir

STEPS = 10  # 70 examples in 16s are 5 batches, two epochs


def rows(tmp_path):
    with open(tmp_path / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def points(folder):
    """{tag: [(step, value)]} of the one TensorBoard run below the folder, without measured times."""
    (run,) = folder.iterdir()
    events = EventAccumulator(str(run)).Reload()
    tags = set(events.Tags()["scalars"]) - {"train/examples_per_second"}
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_runs_killed_at_20_random_moments_end_as_if_left_alone(tmp_path):
    ended = subprocess.run(
        [sys.executable, ROOT / "tests/stress/kill_and_resume.py", "--kills", "20", "--output_dir", tmp_path / "kills"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("20 kills in")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(submit, left_alone, monkeypatch, tmp_path, number, status):
    stop_in_step(monkeypatch, 7, number)
    stopped = submit()
    assert stopped.status == status
    assert f"stopped by {number.name} after step 7: {tmp_path}/out/checkpoint-7 is saved" in stopped.last_line
    assert "--resume" in stopped.last_line
    stop_in_step(monkeypatch, STEPS - 7, number)  # in the last step
    assert submit().status == status
    assert (tmp_path / f"out/checkpoint-{STEPS}").is_dir()
    assert submit().status == 0
    assert_same_results(tmp_path / "out", left_alone)
    assert points(tmp_path / "runs") == points(tmp_path / "runs-alone")
    assert len(rows(tmp_path)) == 1


def test_a_finished_run_says_so_and_is_left_as_it_is(submit, tmp_path):
    assert submit().status == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = submit("--overwrite_output_dir")  # --resume wins
    assert again.status == 0 and "is finished" in again.err
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert len(rows(tmp_path)) == len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize(("flags", "named"), [
    (["--learning_rate", "2e-3"], "--learning_rate is 0.002, but the run"), (["--mask_padding"], "--mask_padding"),
    (["--seed", 1], "--seed"), (["--num_train_epochs", 3], "--num_train_epochs"), (["--max_train_samples", 60], "--max_train"),
    (["--do_layerwise"], "--do_layerwise"), (["--cache_teacher", "ram"], "--cache_teacher"), (["--bf16"], "--bf16"),
])
def test_other_settings_are_refused_by_their_flag(submit, monkeypatch, tmp_path, flags, named):
    stop_in_step(monkeypatch, 1, signal.SIGTERM)
    assert submit().status == 143
    refused = submit(*flags)
    assert refused.status == 2 and named in refused.last_line and "started with" in refused.last_line
    assert (tmp_path / "out/checkpoint-1").is_dir()


def test_another_teacher_under_the_same_name_is_refused_and_a_moved_one_is_not(submit, monkeypatch, save_bert, tmp_path):
    stop_in_step(monkeypatch, 1, signal.SIGTERM)
    teacher = save_bert(tmp_path / "a", "RTE")
    assert submit("--model_name_or_path", teacher).status == 143
    other = save_bert(tmp_path / "b", "RTE", seed=1)
    assert submit("--model_name_or_path", other).last_line.split("error: ")[1].startswith("--model_name_or_path: its content")
    config = (teacher / "config.json").read_text()
    (teacher / "config.json").write_text(json.dumps(json.loads(config) | {"layer_norm_eps": 0.1}))  # with the same weights
    assert submit("--model_name_or_path", teacher).last_line.split("error: ")[1].startswith("--config_name: its content")
    (teacher / "config.json").write_text(config)
    assert submit("--model_name_or_path", teacher.rename(tmp_path / "moved")).status == 0


def test_other_settings_with_overwriting_begin_anew(submit, monkeypatch, tmp_path):
    stop_in_step(monkeypatch, 1, signal.SIGTERM)
    assert submit().status == 143
    assert submit("--seed", 1, "--overwrite_output_dir").status == 0
    assert json.loads((tmp_path / "out/training_args.json").read_text())["arguments"]["seed"] == 1
    assert not (tmp_path / "out/checkpoint-1").exists()


def test_a_named_checkpoint_is_gone_on_from(submit, resumable_flags, run_script, left_alone, tmp_path):
    assert submit("--save_total_limit", 5).status == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    (scored,) = rows(tmp_path)
    (tmp_path / "results.csv").write_text((tmp_path / "results.csv").read_text().replace(scored["acc"], "0.125"))
    rewound = run_script("run_glue_intra_inter.py", *(flag for flag in resumable_flags if flag != "--resume"),
                         "--student_model_name_or_path", out / "checkpoint-4")
    assert rewound.status == 0 and f"goes on from {out}/checkpoint-4" in rewound.err
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-8"]
    assert_same_results(out, left_alone)
    assert points(tmp_path / "runs") == points(tmp_path / "runs-alone")
    assert [row["acc"] for row in rows(tmp_path)] == [scored["acc"]]  # the run's row is that of the weights in its folder
    elsewhere = submit("--student_model_name_or_path", out / "checkpoint-8", "--output_dir", tmp_path / "elsewhere")
    assert elsewhere.status == 0 and "goes on from" in elsewhere.err
    assert_same_results(tmp_path / "elsewhere", left_alone)
    assert len(rows(tmp_path)) == 2


def test_a_copied_folder_is_a_run_of_its_own(submit, resumable_flags, run_script, left_alone, monkeypatch, tmp_path):
    first, second, third = (tmp_path / name for name in ("out", "second", "third"))
    stop_in_step(monkeypatch, 6, signal.SIGTERM)
    assert submit("--student_model_name_or_path", first).status == 143
    shutil.copytree(first, second)
    assert submit().status == 0
    shutil.copytree(first, third)
    stop_in_step(monkeypatch, 1, signal.SIGTERM)
    assert submit("--output_dir", second, "--student_model_name_or_path", second).status == 143
    ended = submit("--output_dir", second, "--student_model_name_or_path", second)
    assert ended.status == 0 and f"goes on from {second}/checkpoint-7" in ended.err
    rewound = run_script("run_glue_intra_inter.py", *(flag for flag in resumable_flags if flag != "--resume"),
                         "--output_dir", third, "--student_model_name_or_path", third / "checkpoint-8")
    assert rewound.status == 0 and f"goes on from {third}/checkpoint-8" in rewound.err
    records = [json.loads((folder / "training_args.json").read_text()) for folder in (first, second, third)]
    names = [record["run"] for record in records]
    assert {row["output_dir"]: row["run"] for row in rows(tmp_path)} == dict(zip(("out", "second", "third"), names, strict=True))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted(names) and len(set(names)) == 3
    assert names[0] not in ended.err + rewound.err and f"{first}/" not in ended.err + rewound.err
    for folder in (first, second, third):
        assert_same_results(folder, left_alone)


def test_a_moved_folder_is_the_same_run(submit, monkeypatch, tmp_path):
    stop_in_step(monkeypatch, 6, signal.SIGTERM)
    assert submit().status == 143
    name = json.loads((tmp_path / "out/training_args.json").read_text())["run"]
    (tmp_path / "out").rename(tmp_path / "moved")
    assert submit("--output_dir", tmp_path / "moved").status == 0
    assert [(row["output_dir"], row["run"]) for row in rows(tmp_path)] == [("moved", name)]


def test_a_damaged_checkpoint_is_told_and_nothing_is_changed(submit, monkeypatch, tmp_path):
    stop_in_step(monkeypatch, 3, signal.SIGTERM)
    assert submit().status == 143
    checkpoint = tmp_path / "out/checkpoint-3"
    values = json.loads((checkpoint / "training_state.json").read_text())
    for name, damaged in (
        ("training_state.safetensors", (checkpoint / "training_state.safetensors").read_bytes()[:1000]),
        ("model.safetensors", (checkpoint / "model.safetensors").read_bytes()[:-1] + b"\xff"),
        ("training_state.json", json.dumps(values | {"step": 2}).encode()),
        ("training_state.json", json.dumps(values | {"log": {"batches": "3"}}).encode()),
    ):
        good = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(damaged)
        before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
        refused = submit()
        assert refused.status == 2 and f"checkpoint-3/{name}: missing or damaged" in refused.last_line
        assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
        (checkpoint / name).write_bytes(good)
    assert submit().status == 0


@pytest.mark.parametrize("odd", [{"run": "../elsewhere"}, {"run": 3}, {"settings": None}, {"finished": "no"}, {"arguments": []},
                                 {"folder": 3}])
def test_a_damaged_record_is_told(submit, monkeypatch, tmp_path, odd):
    stop_in_step(monkeypatch, 3, signal.SIGTERM)
    assert submit().status == 143
    path = tmp_path / "out/training_args.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    before = path.read_bytes()
    refused = submit()
    assert refused.status == 2 and f"{path}: " in refused.last_line
    assert path.read_bytes() == before


def test_resume_with_content_that_is_no_run_or_without_training_is_refused(submit, run_script, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    assert "holds no run to resume" in submit().last_line
    flags = ["--task_name", "RTE", "--data_dir", tmp_path, "--output_dir", tmp_path / "out", "--do_eval", "--resume"]
    assert run_script("run_glue_intra_inter.py", *flags).status == 2


def test_an_output_folder_serves_one_run_at_a_time(submit, tmp_path):
    with locked_output_dir(tmp_path / "out"):
        assert "another run is writing there" in submit().last_line
    assert submit("--max_steps", 1).status == 0
    with pytest.raises(BlockingIOError, match="a terminal"), locked_output_dir(tmp_path / "out"):
        raise BlockingIOError("a terminal that is busy")  # which is no lock


def test_runs_side_by_side_share_data_caches_and_results(resumable_flags, toy_glue, tmp_path):
    data = shutil.copytree(toy_glue / "RTE", tmp_path / "RTE", ignore=shutil.ignore_patterns("cached*"))
    runs = [
        subprocess.Popen(
            list(map(str, [sys.executable, ROOT / "run_glue_intra_inter.py", *resumable_flags, "--data_dir", data, "--output_dir",
                           tmp_path / name, "--cache_teacher", tmp_path / "cache", "--max_steps", 2])),
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
        )
        for name in ("first", "second")
    ]
    for run in runs:
        _, errors = run.communicate()
        assert run.returncode == 0, errors
    assert_same_results(tmp_path / "first", tmp_path / "second")
    assert sorted(row["output_dir"] for row in rows(tmp_path)) == ["first", "second"]
    assert len(list((data / "cached_encodings").iterdir())) == 2  # train and dev
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1
