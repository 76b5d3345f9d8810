"""reproduce.py as people call it, with a stand-in for the scripts that it runs."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT
from lab import CELLS, EXPERIMENT, Lab

import fsd.reproduction.runner as runner_module
from fsd.system import devices


@pytest.fixture
def lab(tmp_path, toy_glue, run_script, monkeypatch):
    return Lab(tmp_path, toy_glue, run_script, monkeypatch)


def test_all_cells_run_once(lab):
    finished = lab.run()
    assert finished.status == 0, finished.err
    assert f"{CELLS} of {CELLS} cells done" in finished.err and lab.failed() == {}
    assert len(lab.started()) == CELLS + 4  # and the analyses of the four students
    assert 'alpha = 0.2' in (lab.output / "chosen.toml").read_text()
    again = lab.run()
    assert again.status == 0 and lab.started() == [] and f"{CELLS} of {CELLS} cells done" in again.err


def test_a_precision_that_is_slow_on_this_cpu_is_told_at_the_start(lab, monkeypatch):
    monkeypatch.setattr(devices, "slowdown_on_cpu", lambda device, precision: {torch.bfloat16: 7.0}.get(precision))
    assert "as long as float32" not in lab.run("--tasks", "RTE", "--methods", "fine-tuning").err
    lab.experiment.write_text(EXPERIMENT.replace("max_steps = 5", "max_steps = 5\nbf16 = true"))
    finished = lab.run("--methods", "fine-tuning")
    assert f"{lab.experiment}: bf16 = true takes about 7 times as long as float32 on this CPU" in finished.err


def test_the_weights_of_students_go_and_all_else_stays(lab):
    lab.run()
    students = [*lab.output.glob("search/RTE/KD/*/seed-1"), *lab.output.glob("final/RTE/[fK]*/*/seed-*")]
    assert len(students) == 6
    for folder in students:
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert left == {"config.json", "training_args.json", "checkpoint-notes/x"}
    assert len(list(lab.output.glob("*/RTE/teacher-*/model.safetensors"))) == 2


def test_students_are_kept_on_request(lab):
    lab.run("--keep_students")
    assert len(list(lab.output.glob("final/RTE/[fK]*/*/seed-*/model.safetensors"))) == 4
    assert not list(lab.output.glob("search/RTE/KD/*/*/model.safetensors"))


def test_what_a_call_kept_stays_and_what_a_killed_one_left_of_the_search_goes(lab):
    lab.run("--keep_students")
    left = next(lab.output.glob("search/RTE/KD/*/seed-1")) / "model.safetensors"
    left.write_text("{}")
    assert lab.run().status == 0 and lab.started() == []
    assert len(list(lab.output.glob("final/RTE/[fK]*/*/seed-*/model.safetensors"))) == 4 and not left.exists()


def test_a_failure_stops_no_other_cell_and_is_reported_at_the_end(lab):
    finished = lab.run(**{"run_baseline.py": "fail"})
    assert finished.status == 1
    lines = [line for line in finished.err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 2 and finished.err.endswith(lines[-1] + "\n")
    assert all(line.endswith("run_baseline.py: error: it has diverged") for line in lines)
    assert sorted(name.rsplit("/", 1)[1] for name in lab.failed()) == ["seed-1", "seed-2"]
    assert all(name.startswith("RTE/fine-tuning/") for name in lab.failed())  # as the tables count them
    assert len(list(lab.output.glob("analysis/RTE-KD-*.json"))) == 2
    assert lab.run().status == 0 and lab.failed() == {} and len(lab.started()) == 4  # each is tried again


def test_a_search_without_any_score_is_named(lab):
    finished = lab.run(**{"search__RTE__KD": "fail"})
    assert finished.status == 1 and "failed: RTE/KD: none of its 2 settings has a score" in finished.last_line
    assert "RTE/KD" in lab.failed() and len(lab.failed()) == 3
    assert len(list(lab.output.glob("analysis/RTE-fine-tuning-*.json"))) == 2  # it does not depend on KD
    assert not (lab.output / "final/RTE/KD").exists()


def test_a_failed_setting_does_not_keep_the_others_from_being_chosen(lab):
    finished = lab.run(**{"--alpha 0.2": "fail"})
    assert finished.status == 1 and len(lab.failed()) == 1
    assert "alpha = 0.5" in (lab.output / "chosen.toml").read_text()
    assert len(list(lab.output.glob("analysis/RTE-KD-*.json"))) == 2


@pytest.mark.parametrize(("does", "words"), [
    ("leave nothing", "its results row or its files are not there"), ("die", "killed by SIGKILL; before that: it wrote nothing"),
    ("fail silently", "exit status 3; it wrote nothing"),
])
def test_other_ways_to_fail(lab, does, words):
    finished = lab.run("--methods", "fine-tuning", **{"RTE__fine-tuning": does})
    assert finished.status == 1 and words in finished.last_line
    assert len([command for command in lab.started() if command[0] == "run_baseline.py"]) == 2  # not again and again


def test_a_failed_analysis_leaves_the_student_for_the_next_try(lab):
    assert lab.run("--methods", "fine-tuning", **{"analyse.py": "fail"}).status == 1
    assert len(list(lab.output.glob("final/RTE/fine-tuning/*/*/model.safetensors"))) == 2
    assert lab.run("--methods", "fine-tuning").status == 0
    assert not list(lab.output.glob("final/RTE/fine-tuning/*/*/model.safetensors"))


def test_failures_of_cells_that_a_narrowed_call_does_not_touch_stay(lab):
    lab.run("--seeds", "1", **{"run_baseline.py": "fail"})
    assert len(lab.failed()) == 1
    lab.run("--seeds", "2")
    assert len(lab.failed()) == 1
    lab.run("--methods", "KD")
    assert len(lab.failed()) == 1
    lab.run("--seeds", "1")
    assert lab.failed() == {}


def test_a_signal_is_passed_on_and_the_same_command_goes_on(lab):
    finished = lab.run(**{"final__RTE__KD": "stop the caller"})
    assert finished.status == 143
    assert finished.last_line == "reproduce.py: stopped by SIGTERM: the same command goes on from here"
    (stopped,) = lab.started("stopped")
    assert stopped[0] == "run_glue_intra_inter.py"
    finished = lab.run()
    assert finished.status == 0
    assert [command[0] for command in lab.started()].count("run_glue_intra_inter.py") == 2


def test_cells_run_side_by_side_and_share_the_threads(lab, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert runner_module.slots_of(4) == [{"OMP_NUM_THREADS": "2"}] * 4
    assert runner_module.slots_of(None) == [{"OMP_NUM_THREADS": "8"}]
    assert runner_module.slots_of(100) == [{"OMP_NUM_THREADS": "1"}] * 100
    assert lab.run("--jobs", "3").status == 0 and len(lab.started()) == CELLS + 4


@pytest.mark.parametrize(("named", "names"), [(None, ["0", "1"]), ("3, 5", ["3", "5"]), ("GPU-a,GPU-b,,", ["GPU-a", "GPU-b"])])
def test_each_gpu_has_a_run_of_its_own(monkeypatch, named, names):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in runner_module.slots_of(None)] == names
    assert [slot["OMP_NUM_THREADS"] for slot in runner_module.slots_of(2)] == ["2"] * 4


def test_a_second_signal_ends_the_running_cells_at_once(lab):
    began = time.monotonic()
    finished = lab.run("--methods", "fine-tuning", **{"seed-1": "insist"})
    assert finished.status == 143 and "the same command goes on from here" in finished.last_line
    assert "a second Ctrl-C ends them at once" in finished.err and time.monotonic() - began < 50  # the cell would take 60 s
    assert lab.run("--methods", "fine-tuning").status == 0


def test_an_error_of_our_own_ends_the_running_cells(lab, monkeypatch):
    def look(self, failed=()):
        if "run_baseline.py" in lab.log.read_text():
            raise OSError(28, "No space left on device", "results.csv")
        return real(self, failed)

    from fsd.reproduction.plan import Plan

    real = Plan.look
    monkeypatch.setattr(Plan, "look", look)
    finished = lab.run("--jobs", "2", "--methods", "fine-tuning", **{"seed-1": "hang"})
    assert finished.status == 2 and "No space left" in finished.last_line
    assert len(lab.started("stopped")) == 1


def test_a_call_waits_for_what_an_earlier_one_that_was_killed_left_running(lab, monkeypatch):
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps({"seed-1": "hang"}))
    call = f"""
import runpy, sys
from pathlib import Path
import fsd.reproduction.runner as runner
runner.PROJECT = Path({str(lab.project)!r})
sys.argv = {["reproduce.py", *map(str, lab.words("--methods", "fine-tuning"))]!r}
runpy.run_path({str(ROOT / "scripts/reproduce.py")!r}, run_name="__main__")
"""
    lab.log.write_text("")
    first = subprocess.Popen([sys.executable, "-c", call], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=lab.folder,
                             stderr=subprocess.DEVNULL)
    while "run_baseline.py" not in lab.log.read_text():
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.Popen([sys.executable, "-c", call], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=lab.folder,
                              stderr=subprocess.PIPE, text=True)
    assert "waiting for runs of an earlier call" in second.stderr.readline()
    before = len(lab.started())
    lab.go_on.touch()
    errors = second.communicate()[1]
    assert second.returncode == 0, errors
    assert len(lab.started()) - before == 5  # the first student, which is done, and its analysis; the second; the teacher's
    assert not list(lab.output.glob("final/RTE/fine-tuning/*/*/model.safetensors"))


def test_a_dry_run_prints_what_can_start_and_writes_nothing(lab):
    finished = lab.run("--dry_run", "--seconds_per_step", "36")
    assert finished.status == 0 and not lab.output.exists() and lab.started() == []
    scripts = [shlex.split(line)[1] for line in finished.out.splitlines()]
    assert scripts == [str(lab.project / "scripts" / name) for name in ("hold_out.py", "finetune_teacher.py")]
    table = {line[:24].strip(): line[24:].split() for line in finished.err.splitlines()}
    assert table["stage"] == ["cells", "done", "failed", "to", "come", "hours"]
    assert table["search of KD"] == ["2", "0", "0", "2", "0.1"] and table["final runs"] == ["4", "0", "0", "4", "0.2"]


def test_the_lines_of_dry_runs_do_the_whole_experiment(lab):
    for _ in range(20):
        lines = lab.run("--dry_run").out.splitlines()
        if not lines:
            break
        for line in lines:
            subprocess.run(["bash", "-c", line], check=True, cwd="/")
    finished = lab.run()
    assert finished.status == 0 and lab.started() == [] and f"{CELLS} of {CELLS} cells done" in finished.err
    assert not list(lab.output.glob("search/RTE/KD/*/seed-*/model.safetensors"))
    assert len(list(lab.output.glob("final/RTE/[fK]*/*/seed-*/model.safetensors"))) == 4


def test_runs_of_another_model_or_of_other_data_are_never_mixed_in(lab, tmp_path):
    assert lab.run("--methods", "KD").status == 0
    other = tmp_path / "other"
    other.mkdir()
    finished = lab.run("--model_name_or_path", other)
    assert finished.status == 2 and "has runs that start from base; give another --output_dir" in finished.last_line
    shutil.copytree(lab.glue, other / "glue")
    training_file = other / "glue/RTE/train.tsv"
    training_file.write_text("".join(training_file.read_text().splitlines(keepends=True)[:-1]))
    finished = lab.run("--data_dir", other / "glue")
    assert finished.status == 2 and "was split from another file" in finished.last_line
    shutil.rmtree(lab.output / "held-out")
    finished = lab.run("--data_dir", other / "glue")
    assert finished.status == 2 and "has runs on other training data of RTE" in finished.last_line and not lab.started()
    elsewhere = tmp_path / "moved" / "base"
    shutil.copytree(lab.base, elsewhere)
    assert lab.run("--model_name_or_path", elsewhere, "--methods", "KD").status == 0  # the same model at another place
    lab.experiment.write_text(lab.experiment.read_text().replace("[settings]", "[teacher]\nwarmup_steps = 7\n[settings]"))
    finished = lab.run("--methods", "KD")
    assert finished.status == 2 and "this experiment's settings give teacher-" in finished.last_line


def test_a_model_that_is_not_there_is_told_before_anything_runs(lab):
    finished = lab.run("--model_name_or_path", lab.folder / "none")
    assert finished.status == 2 and "none: there is no such folder" in finished.last_line and not lab.started()


@pytest.mark.parametrize(("flags", "words"), [
    (["--tasks", "MRPC"], "--tasks: MRPC is not in the experiment, which has RTE"),
    (["--methods", "PKD"], "--methods: PKD is not in the experiment"), (["--seeds", "3"], "--seeds: 3 is not in the experiment"),
    (["--jobs", "0"], "--jobs"), (["--chosen", "none.toml"], "none.toml: cannot read it as TOML"),
    (["--chosen", "none.toml", "--select_on", "dev"], "--select_on is for a search"),
    (["--seconds_per_step", "1"], "--seconds_per_step needs --dry_run"),
])
def test_bad_flags_are_told_in_one_line(lab, flags, words):
    finished = lab.run(*flags)
    assert finished.status == 2 and finished.err.count("\n") == 1 and words in finished.err and not lab.output.exists()


@pytest.mark.parametrize(("name", "content", "words"), [
    ("results.csv", "a,b\n1,2\n", "results.csv:1: its columns are not this program's"),
    ("search.csv", "a,b\n1,2\n", "search.csv:1"), ("search-dev.csv", "a,b\n1,2\n", "search-dev.csv:1"),
    ("chosen.toml", "a = [", "cannot read it as TOML"), ("failed.json", "[]", "does not map cells to messages"),
])
def test_damaged_files_are_told_and_stay(lab, name, content, words):
    lab.output.mkdir()
    (lab.output / name).write_text(content)
    finished = lab.run()
    assert finished.status == 2 and words in finished.last_line and "--results_file" not in finished.err
    assert (lab.output / name).read_text() == content and lab.started() == []


def test_chosen_values_of_an_earlier_search_are_taken(lab):
    lab.run("--seeds", "1")
    elsewhere = lab.folder / "elsewhere"
    finished = lab.run("--chosen", lab.output / "chosen.toml", "--output_dir", elsewhere)
    assert finished.status == 0, finished.err
    assert (elsewhere / "chosen.toml").read_text() == (lab.output / "chosen.toml").read_text()
    assert not (elsewhere / "search.csv").exists()


def test_cuda_graphs_without_a_gpu_are_told_before_anything_runs(lab, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finished = lab.run("--cuda_graphs")
    assert finished.status == 2 and "--cuda_graphs needs a GPU" in finished.last_line and not lab.started()
