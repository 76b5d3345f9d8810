"""A task of one's own through the real command lines. docs/own-data.md's commands are in tests/test_readme.py."""

import csv
import json

import pytest

from fsd.glue.files import read_split
from fsd.glue.tasks import find_task
from fsd.records.results import read_results

TASK = {"name": "Mine", "files": {"train": "learn.csv", "dev": "check.csv", "test": "ask.csv"}, "text_columns": ["said"],
        "label_column": "kind", "labels": ["Bad", "Good"], "metrics": ["mcc", "acc"]}
SHORT = ["--max_seq_length", 24, "--do_lower_case", "--max_steps", 1]


@pytest.fixture
def mine(tmp_path, toy_glue):
    """The task file of CoLA's toy rows as CSV, with a line break in each text; the data lie in "data" beside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, split in (("learn.csv", "train"), ("check.csv", "dev"), ("ask.csv", "test")):
        read = read_split(find_task("CoLA"), toy_glue, split)
        labels = [TASK["labels"][label] for label in read.labels or []] or ["?"] * len(read.texts_a)
        with open(folder / name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["kind", "said"])
            writer.writerows((label, f"{text}\nAnd more.") for label, text in zip(labels, read.texts_a, strict=True))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(TASK))
    return path


@pytest.fixture
def finetune(run_script, save_bert, mine, tmp_path):
    """Call ``finetune(flags…)``: the end of one step of teacher fine-tuning into "teacher"."""
    bert = save_bert(tmp_path / "bert", "CoLA")
    return lambda *flags, data=tmp_path / "data": run_script(
        "scripts/finetune_teacher.py", "--task_file", mine, "--data_dir", data, "--model_name_or_path", bert, "--output_dir",
        tmp_path / "teacher", *SHORT, *flags,
    )


def test_the_record_the_row_the_card_and_the_predictions(finetune, mine, tmp_path):
    assert (ended := finetune("--do_train", "--do_eval", "--do_predict")).status == 0, ended.err
    record = json.loads((tmp_path / "teacher/training_args.json").read_text())
    assert record["task"]["files"] == TASK["files"] and record["settings"]["--task_file"].startswith("sha256:")
    assert record["settings"]["--task_name"] is None and record["trained_on"]["file"]
    (row,) = read_results(tmp_path / "results.csv")
    assert (row["task"], row["main_metric"]) == ("Mine", "mcc") and row["mcc"] and row["acc"] and not row["f1"]
    card = (tmp_path / "teacher/README.md").read_text()
    assert "GLUE" not in card and "glue" not in card and "of Mine" in card
    assert json.loads((tmp_path / "teacher/config.json").read_text())["id2label"] == {"0": "Bad", "1": "Good"}
    lines = (tmp_path / "teacher/predictions/Mine.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction" and [line.split("\t")[0] for line in lines[1:]] == [str(at) for at in range(10)]
    assert {line.split("\t")[1] for line in lines[1:]} <= {"Bad", "Good"}
    # An earlier run is removed whole, its predictions too.
    assert finetune("--do_train", "--overwrite_output_dir").status == 0
    assert not (tmp_path / "teacher/predictions").exists()


def test_scores_of_a_later_evaluation_go_to_the_row_and_the_card(finetune, run_script, mine, tmp_path):
    assert finetune("--do_train").status == 0
    ended = run_script("scripts/finetune_teacher.py", "--task_file", mine, "--data_dir", tmp_path / "data", "--output_dir",
                       tmp_path / "teacher", "--max_seq_length", 24, "--do_eval")
    assert ended.status == 0, ended.err
    (row,) = read_results(tmp_path / "results.csv")
    card = (tmp_path / "teacher/README.md").read_text()
    assert row["mcc"] and row["acc"]
    assert "metrics:\n- matthews_correlation\n- accuracy\n" in card.split("---")[1] and "not evaluated" not in card


def test_a_run_goes_on_only_with_the_same_description(finetune, mine, tmp_path):
    assert finetune("--do_train").status == 0
    assert finetune("--do_train", "--resume").status == 0
    mine.write_text(json.dumps(TASK | {"labels": ["Good", "Bad"]}))
    refused = finetune("--do_train", "--resume")
    assert refused.status == 2 and "--task_file: its content has changed" in refused.last_line


def test_other_labels_are_encoded_anew(finetune, mine, tmp_path):
    """A cache of the encodings holds class ids, so that it must not serve another order of the labels."""
    assert finetune("--do_train", "--do_eval").status == 0
    caches = set((tmp_path / "data/cached_encodings").iterdir())
    mine.write_text(json.dumps(TASK | {"labels": ["Good", "Bad"]}))
    assert finetune("--do_train", "--do_eval", "--overwrite_output_dir").status == 0
    assert len(set((tmp_path / "data/cached_encodings").iterdir()) - caches) == 2


def test_holding_out_keeps_whole_csv_records(run_script, finetune, mine, tmp_path):
    flags = ["--task_file", mine, "--data_dir", tmp_path / "data", "--output_dir", tmp_path / "held"]
    ended = run_script("scripts/hold_out.py", *flags)
    assert ended.status == 0, ended.err

    def rows(path):
        with open(path, newline="") as file:
            return [tuple(row) for row in csv.reader(file)]

    whole, parts = rows(tmp_path / "data/learn.csv"), [rows(tmp_path / f"held/Mine/{name}.csv") for name in ("learn", "check")]
    assert parts[0][0] == parts[1][0] == whole[0]
    assert sorted(parts[0][1:] + parts[1][1:]) == sorted(whole[1:]) and len(parts[1]) == 15
    assert finetune("--do_train").status == 0
    refused = run_script("run_glue_intra_inter.py", "--task_file", mine, "--data_dir", tmp_path / "held", "--model_name_or_path",
                         tmp_path / "teacher", "--output_dir", tmp_path / "out", *SHORT, "--do_train")
    assert refused.status == 2 and "has seen them" in refused.last_line


def test_train_and_dev_of_different_formats_are_not_split(run_script, mine, tmp_path):
    mine.write_text(json.dumps(TASK | {"files": {"train": "learn.csv", "dev": "check.tsv"}}))
    flags = ["--task_file", mine, "--data_dir", tmp_path / "data", "--output_dir", tmp_path / "held"]
    refused = run_script("scripts/hold_out.py", *flags)
    assert refused.status == 2 and "train and dev end in .csv and .tsv" in refused.last_line and not (tmp_path / "held").exists()


@pytest.mark.parametrize("script", ["scripts/run_baseline.py", "scripts/hold_out.py", "scripts/analyse.py", "train_memory.py"])
def test_a_task_has_a_name_or_a_file(run_script, mine, script):
    both = run_script(script, "--task_file", mine, "--task_name", "RTE")
    assert both.status == 2 and "not allowed with argument" in both.last_line
    neither = run_script(script)
    assert neither.status == 2 and ("--task_name --task_file" in neither.last_line or "required" in neither.last_line)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"label_column": "sort"}, "learn.csv:1: no column 'sort'"), ({"labels": ["Bad", "Fine"]}, "unknown label 'Good'"),
    ({"files": {"train": "absent.csv", "dev": "check.csv"}}, "absent.csv: no such file"),
    ({"metrics": ["rouge"]}, "unknown metric 'rouge'"),
])
def test_a_description_that_does_not_fit_the_data_ends_in_one_line(finetune, mine, changes, reason):
    mine.write_text(json.dumps(TASK | changes))
    refused = finetune("--do_train")
    assert refused.status == 2 and reason in refused.last_line and "Traceback" not in refused.err


def test_predictions_need_a_test_file(finetune, mine):
    mine.write_text(json.dumps(TASK | {"files": {"train": "learn.csv", "dev": "check.csv"}}))
    refused = finetune("--do_train", "--do_predict")
    assert refused.status == 2 and "names no test file" in refused.last_line


def test_a_task_file_among_the_outputs_is_not_written_over(finetune, mine, tmp_path):
    (tmp_path / "teacher").mkdir()
    mine.rename(tmp_path / "teacher/config.json")
    mine.symlink_to(tmp_path / "teacher/config.json")
    refused = finetune("--do_train", "--overwrite_output_dir")
    assert refused.status == 2 and "--task_file" in refused.last_line


def test_a_baseline_and_a_score_of_ones_own(run_script, save_bert, toy_glue, tmp_path):
    """Regression: RKD and the tables, on STS-B's toy rows under another name, tab-separated."""
    task = {"name": "Alike", "text_columns": ["sentence1", "sentence2"], "label_column": "score", "range": [0, 5],
            "metrics": ["pearson"]}
    (tmp_path / "alike.json").write_text(json.dumps(task))
    ended = run_script(
        "scripts/run_baseline.py", "--method", "rkd", "--rkd_distance", 1, "--task_file", tmp_path / "alike.json", "--data_dir",
        toy_glue / "STS-B", "--model_name_or_path", save_bert(tmp_path / "bert", "STS-B"), "--output_dir", tmp_path / "out",
        *SHORT, "--do_train", "--do_eval", "--do_predict", "--results_file", tmp_path / "repro/results.csv",
    )
    assert ended.status == 0, ended.err
    analysed = run_script(
        "scripts/analyse.py", "--task_file", tmp_path / "alike.json", "--data_dir", toy_glue / "STS-B", "--model_name_or_path",
        tmp_path / "bert", "--student_model_name_or_path", tmp_path / "out", "--max_seq_length", 24, "--cka_batch_size", 5,
        "--output_file", tmp_path / "repro/analysis/alike.json",
    )
    assert analysed.status == 0, analysed.err
    tables = run_script("scripts/make_tables.py", "--results", tmp_path / "repro", "--output_dir", tmp_path / "tables")
    assert tables.status == 0, tables.err
    own = (tmp_path / "tables/own-tasks.md").read_text()
    assert "Alike pearson" in own and "| RKD | ours |" in own
    assert "Alike" not in (tmp_path / "tables/table2.md").read_text() + (tmp_path / "tables/table6.md").read_text()
    figures = run_script("scripts/make_figures.py", "--results", tmp_path / "repro", "--output_dir", tmp_path / "figures")
    assert figures.status == 0 and (tmp_path / "figures/report.html").is_file(), figures.err
