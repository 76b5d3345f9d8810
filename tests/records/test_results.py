"""The results file: what a row holds, and files of older versions."""

import csv
import json
import os

import pytest
from safetensors.torch import load_file

from fsd.records.results import (
    RESULT_COLUMNS,
    append_result,
    check_results_file,
    model_for_row,
    path_for_row,
    path_of_row,
    read_results,
)
from fsd.system.errors import InputError


@pytest.fixture
def row_of(run_script, toy_glue, rte_teacher, tmp_path):
    """Call ``row_of(script, name, teacher, flags…)``: trains a model into ``out/name``; returns its row."""

    def run(script, name, *flags, teacher=rte_teacher):
        ended = run_script(
            script, "--model_name_or_path", teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_lower_case",
            "--per_gpu_train_batch_size", 16, "--max_seq_length", 24, "--output_dir", f"out/{name}", "--do_train",
            "--results_file", "tables/results.csv", *flags,
        )
        assert ended.status == 0, ended.err
        return read_results(tmp_path / "tables/results.csv")[-1]

    return run


def filled(row, *names):
    return {name for name in names if row[name]}


WEIGHTS = ("alpha", "beta", "temperature", "gamma_i", "gamma_l", "gamma_g", "gamma_m", "do_layerwise", "teacher",
           "memory", "teacher_data", "cache_teacher")


def test_rows_hold_what_played_a_part(row_of, memory, tmp_path):
    teacher = row_of("scripts/finetune_teacher.py", "teacher", "--max_steps", 2)
    assert teacher["role"] == "teacher" and teacher["method"] == "fine-tuning" and not filled(teacher, *WEIGHTS)
    assert float(teacher["epochs"]) == 0.4 and teacher["steps"] == "2"  # 70 examples in 16s are 5 updates

    folder = tmp_path / "out/teacher"
    kd = row_of("run_glue_intra_inter.py", "kd", "--beta", 0, "--max_steps", 1, teacher=folder)
    assert kd["role"] == "student"
    assert filled(kd, *WEIGHTS) == {"alpha", "temperature", "teacher", "teacher_data", "cache_teacher"}
    assert (kd["output_dir"], kd["teacher"]) == ("../out/kd", "../out/teacher")
    assert kd["teacher_data"] == kd["train_data"] == json.loads((folder / "training_args.json").read_text())["trained_on"]["rows"]
    assert (kd["student_layers"], kd["student_hidden_size"]) == ("2", "16")
    sizes = [value.numel() for value in load_file(tmp_path / "out/kd/model.safetensors").values()]
    assert int(kd["parameters"]) == sum(sizes)

    intra = row_of("run_glue_intra_inter.py", "intra", "--internal", "--alpha", 1, "--num_train_epochs", 1)
    assert filled(intra, *WEIGHTS) == {"alpha", "beta", "gamma_i", "do_layerwise", "teacher", "cache_teacher"}
    assert float(intra["epochs"]) == 1 and not intra["teacher_data"]  # that teacher has no record
    g = row_of("run_glue_global.py", "global", "--teacher_memory_path", memory, "--max_steps", 1)
    assert filled(g, *WEIGHTS) == {"alpha", "beta", "temperature", "gamma_g", "gamma_m", "memory", "teacher", "cache_teacher"}
    assert os.path.samefile(path_of_row(g["memory"], tmp_path / "tables/results.csv"), memory)
    alone = row_of("run_glue_intra_inter.py", "alone", "--alpha", 1, "--beta", 0, "--max_steps", 1)
    assert alone["role"] == "student" and alone["method"] == "fine-tuning" and not filled(alone, *WEIGHTS)


def test_a_run_that_is_evaluated_later_gets_its_scores(row_of, run_script, toy_glue, tmp_path):
    empty = row_of("scripts/finetune_teacher.py", "teacher", "--max_steps", 2, "--save_steps", 1)
    other = row_of("scripts/finetune_teacher.py", "other", "--max_steps", 1)
    assert not filled(empty, "acc") and not filled(other, "acc")

    def evaluate(folder, *flags):
        flags = ("--do_lower_case", "--max_seq_length", 24, "--results_file", "tables/results.csv", *flags)
        ended = run_script("scripts/finetune_teacher.py", "--data_dir", toy_glue, "--task_name", "RTE", "--do_eval",
                           "--output_dir", folder, *flags)
        assert ended.status == 0, ended.err
        return read_results(tmp_path / "tables/results.csv")

    for other_model in (["out/teacher/checkpoint-1"], ["out/teacher", "--max_seq_length", 30]):
        assert evaluate(*other_model) == [empty, other]
    assert "not evaluated" in (tmp_path / "out/teacher/README.md").read_text()
    accuracy = (evaluate("out/teacher"), (tmp_path / "out/teacher/eval_results.txt").read_text().strip().removeprefix("acc = "))
    assert accuracy[0] == [empty | {"acc": accuracy[1]}, other]
    card = (tmp_path / "out/teacher/README.md").read_text()
    assert f"| acc | {float(accuracy[1]):.4f} |" in card and "- accuracy\n" in card and "not evaluated" not in card
    text = (tmp_path / "tables/results.csv").read_text().replace(accuracy[1], "0.125")
    (tmp_path / "tables/results.csv").write_text(text)
    assert evaluate("out/teacher")[0]["acc"] == "0.125"  # scores stay


def test_an_evaluation_whose_scores_have_no_place_writes_nothing(row_of, run_script, toy_glue, tmp_path):
    row_of("scripts/finetune_teacher.py", "teacher", "--max_steps", 2, "--save_steps", 1)
    (tmp_path / "notes.csv").write_text("notes\n")
    refused = run_script(
        "scripts/finetune_teacher.py", "--data_dir", toy_glue, "--task_name", "RTE", "--do_eval", "--do_lower_case",
        "--eval_all_checkpoints", "--output_dir", "out/teacher", "--results_file", "notes.csv",
    )
    assert refused.status == 2 and "'notes' is none of them" in refused.last_line
    assert not list(tmp_path.rglob("eval_results.txt"))


@pytest.mark.parametrize("name, flag", [("eval_results.txt", "--do_eval"), ("predictions/RTE.tsv", "--do_predict")])
def test_an_evaluation_leaves_files_of_others(row_of, run_script, toy_glue, tmp_path, name, flag):
    row_of("scripts/finetune_teacher.py", "teacher", "--max_steps", 1)
    place = tmp_path / "out/teacher" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    command = ["scripts/finetune_teacher.py", "--data_dir", toy_glue, "--task_name", "RTE", "--do_lower_case", "--max_seq_length",
               24, "--output_dir", "out/teacher", flag]
    refused = run_script(*command)
    assert refused.status == 2 and name.split("/")[-1] in refused.last_line and place.read_text() == "mine"
    place.unlink()
    assert run_script(*command).status == run_script(*command).status == 0 and place.read_text() != "mine"


def test_a_file_with_fewer_columns_is_read_and_gets_the_new_header(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("method,task,run\nKD,RTE,first\n\"FSD_I\",RTE,second")
    rows = read_results(path)
    assert [row["method"] for row in rows] == ["KD", "FSD_I"] and not rows[0]["role"]
    append_result(path, {"task": "RTE", "method": "FSD_I", "run": "second"})
    assert len(path.read_text().splitlines()) == 3  # it has that run, whose row was written anew
    append_result(path, {"task": "RTE", "role": "student", "run": "third"})
    with open(path, newline="") as file:
        assert tuple(next(csv.reader(file))) == RESULT_COLUMNS
    assert [row["run"] for row in read_results(path)] == ["first", "second", "third"]
    assert read_results(path)[:2] == rows


@pytest.mark.parametrize(("header", "message"), [
    ("task,score", "'score' is none of them"), ("task,task", "twice"), ("", "columns are not"), ("task,", "'' is none"),
])
def test_foreign_columns_are_refused(tmp_path, header, message):
    (tmp_path / "results.csv").write_text(f"{header}\nRTE,1\n")
    with pytest.raises(InputError, match=f"results.csv:1: .*{message}"):
        read_results(tmp_path / "results.csv")


def test_paths_are_relative_to_the_results_file(tmp_path, monkeypatch):
    (tmp_path / "a/out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    results = tmp_path / "results.csv"
    assert path_for_row("out", results) == path_for_row(tmp_path / "a/out", "../results.csv") == "a/out"
    assert path_for_row("bert-base-uncased", results) == "bert-base-uncased" and path_for_row(None, results) == ""
    assert model_for_row("out", results) == "a/out" and model_for_row("/usr/bin", results) == "bin"
    for held in ("a/out", "out", str(tmp_path / "a/out")):  # as rows are written, and two ways they were
        assert os.path.samefile(path_of_row(held, "../results.csv"), "out")


def test_results_are_added_to_files_of_ours_only(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    os.symlink("nothing", tmp_path / "dangling")
    os.symlink("results.csv", tmp_path / "link")
    for name in ("fifo", "dangling", "."):
        with pytest.raises(InputError, match="not a regular file"):
            check_results_file(tmp_path / name)
    append_result(tmp_path / "link", {"task": "RTE"})
    assert (tmp_path / "link").is_symlink() and len(read_results(tmp_path / "results.csv")) == 1
    with open(tmp_path / "results.csv", "a") as file:
        file.write('"torn')
    with pytest.raises(InputError, match="cannot read it beyond line 2"):
        check_results_file(tmp_path / "results.csv")
