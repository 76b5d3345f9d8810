"""Task files: what they make, and one line for each that does not fit. The formats that their files may have."""

import json

import pytest

from fsd.glue.files import read_split
from fsd.glue.metrics import compute_metrics, main_metric
from fsd.glue.predictions import write_predictions
from fsd.glue.task_file import read_task_file
from fsd.glue.tasks import label_order
from fsd.system.errors import InputError

CLAIMS = {"name": "Claims", "text_columns": ["text", "claim"], "label_column": "answer", "labels": ["No", "Yes"],
          "metrics": ["f1", "acc"]}
RATINGS = {"name": "Ratings", "text_columns": ["text"], "label_column": "stars", "range": [1, 10], "metrics": ["spearmanr"]}


@pytest.fixture
def make_task(tmp_path):
    """Call ``make_task(content, **changes)``: the task of this description; a change to None leaves a key out."""

    def make(content, **changes):
        path = tmp_path / "my task.json"
        path.write_text(json.dumps({key: value for key, value in (content | changes).items() if value is not None}))
        return read_task_file(path)

    return make


def test_a_description_becomes_a_task(make_task):
    task = make_task(CLAIMS)
    assert task.labels == task.file_labels == ("No", "Yes") and task.pair and not task.regression
    assert task.files == {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
    assert task.leaderboard_files == {"test": "Claims.tsv"}
    assert not task.is_official and main_metric(task) == "f1"
    assert compute_metrics(task, [1, 1, 0], [1, 0, 0]) == pytest.approx({"acc": 2 / 3, "f1": 2 / 3})
    task = make_task(RATINGS, files={"test": "c.csv", "dev": "b.jsonl", "train": "a.tsv"})
    assert task.regression and task.num_logits == 1 and task.score_range == (1.0, 10.0)
    assert list(task.files) == ["train", "dev", "test"]
    assert compute_metrics(task, [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]) == {"spearmanr": pytest.approx(1.0)}
    assert make_task(CLAIMS, files={"train": "a.tsv", "dev": "b.tsv"}).test_splits == ()


def test_many_classes_have_accuracy_and_matthews(make_task):
    task = make_task(CLAIMS, labels=["a", "b", "c"], metrics=["mcc", "acc"])
    assert compute_metrics(task, [0, 1, 2], [0, 1, 2]) == pytest.approx({"mcc": 1.0, "acc": 1.0})


def test_labels_in_capitals_are_those_of_the_model_that_was_saved_with_them(make_task):
    task = make_task(CLAIMS)
    assert label_order(task, {0: "No", 1: "Yes"}) == [0, 1] and label_order(task, {0: "yes", 1: "no"}) == [1, 0]


def test_descriptions_that_differ_are_told_apart(make_task):
    definitions = [make_task(CLAIMS, **changes).definition for changes in ({}, {"labels": ["Yes", "No"]}, {"files": {
        "train": "other.tsv", "dev": "dev.tsv"}}, {"file_labels": ["0", "1"]})]
    assert all(one != other for at, one in enumerate(definitions) for other in definitions[:at])


@pytest.mark.parametrize(("changes", "reason"), [
    ({"colour": 1}, "unknown key 'colour'; the keys are name"), ({"name": None}, "it lacks 'name'"),
    ({"metrics": None}, "it lacks 'metrics'"), ({"labels": None}, "either labels, or range"),
    ({"range": [0, 1]}, "either labels, or range"), ({"name": "../out"}, "name must be"), ({"name": 5}, "name must be"),
    ({"name": "mnli"}, "name 'mnli' is a GLUE task"), ({"files": {"train": "a.tsv"}}, "files must name train, dev"),
    ({"files": {"train": "a.tsv", "dev": "b.tsv", "eval": "c.tsv"}}, "files must name train, dev"), ({"files": []}, "files must"),
    ({"files": {"train": "a.tsv", "dev": "a.tsv"}}, "different names"),
    ({"files": {"train": "../a.tsv", "dev": "b.tsv"}}, "file '../a.tsv' must have no folder"),
    ({"files": {"train": "a.txt", "dev": "b.tsv"}}, "end in .tsv, .csv or .jsonl"), ({"index_column": 3}, "index_column"),
    ({"text_columns": "text"}, "text_columns must be"), ({"text_columns": ["a", "b", "c"]}, "text_columns must be"),
    ({"text_columns": ["a", "a"]}, "text_columns must be"), ({"text_columns": []}, "text_columns must be"),
    ({"label_column": ["a"]}, "label_column must be"), ({"label_column": "claim"}, "give the label away"),
    ({"labels": ["yes"]}, "labels must be"), ({"labels": ["yes", "YES"]}, "labels must be"),
    ({"labels": [0, 1]}, "labels must be"),
    ({"file_labels": ["0", "1", "2"]}, "as many as labels"), ({"file_labels": "01"}, "file_labels must be"),
    ({"metrics": []}, "metrics must be"), ({"metrics": "acc"}, "metrics must be"),
    ({"metrics": ["bleu"]}, "unknown metric 'bleu'"),
    ({"metrics": ["pearson"]}, "unknown metric 'pearson'; with labels there are acc"),
    ({"labels": ["a", "b", "c"]}, "f1 and acc_and_f1 need two labels"),
    ({"labels": None, "range": [0, 5]}, "unknown metric 'f1'; with range there are pearson"),
    ({"labels": None, "range": [5, 0]}, "range must be"), ({"labels": None, "range": [0, True]}, "range must be"),
    ({"labels": None, "range": [0, 1e9]}, "range must be"), ({"labels": None, "range": 5}, "range must be"),
    ({"labels": None, "range": [0, float("nan")]}, "range must be"),
    ({"labels": None, "range": [0, 5], "file_labels": []}, "file_labels"),
])
def test_a_description_that_does_not_fit_is_one_line(make_task, tmp_path, changes, reason):
    with pytest.raises(InputError) as error:
        make_task(CLAIMS, **changes)
    assert str(error.value).startswith(f"--task_file {tmp_path / 'my task.json'}: ") and reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_file_that_is_no_description(tmp_path, content):
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(InputError, match="--task_file .*task.json"):
        read_task_file(tmp_path / "task.json")
    with pytest.raises(InputError, match="--task_file .*no such file"):
        read_task_file(tmp_path / "absent.json")


TEXTS = ['He said "yes", twice.', "\"opened"]


@pytest.mark.parametrize(("name", "content"), [
    ("train.tsv", 'answer\ttext\tclaim\nYes\tHe said "yes", twice.\tb\nNo\t"opened\td\n'),
    ("train.csv", '\ufefftext,answer,claim\r\n"He said ""yes"", twice.",Yes,b\r\n\r\n"""opened",No,d\r\n'),
    ("train.jsonl", '{"text": "He said \\"yes\\", twice.", "claim": "b", "answer": "Yes", "more": [1]}\n'
                    '{"claim": "d", "text": "\\"opened", "answer": "No"}\n'),
])
def test_the_formats(make_task, tmp_path, name, content):
    task = make_task(CLAIMS, files={"train": name, "dev": "dev.tsv"})
    (tmp_path / name).write_bytes(content.encode())
    read = read_split(task, tmp_path, "train")
    assert (read.texts_a, read.texts_b, read.labels, read.index) == (TEXTS, ["b", "d"], [1, 0], None)


def test_line_breaks_inside_csv_quotes_are_text_and_lines_are_counted(make_task, tmp_path):
    task = make_task(CLAIMS, files={"train": "train.csv", "dev": "dev.tsv"})
    (tmp_path / "train.csv").write_text('text,claim,answer\n"one\ntwo",b,Yes\nc,d,Maybe\n')
    with pytest.raises(InputError, match=r"train\.csv:4: unknown label 'Maybe'"):
        read_split(task, tmp_path, "train")
    (tmp_path / "train.csv").write_text('text,claim,answer\n"one\ntwo",b,Yes\n')
    assert read_split(task, tmp_path, "train").texts_a == ["one\ntwo"]
    (tmp_path / "train.csv").write_text(f"text,claim,answer\n{'long ' * 30_000},b,Yes\n")
    assert len(read_split(task, tmp_path, "train").texts_a[0]) == 150_000


def test_numbers_and_truths_of_json_lines_are_their_text(make_task, tmp_path):
    task = make_task(CLAIMS, labels=["false", "true"], files={"train": "train.jsonl", "dev": "dev.tsv"})
    (tmp_path / "train.jsonl").write_text('{"text": 5, "claim": 1.5, "answer": true}\n')
    read = read_split(task, tmp_path, "train")
    assert (read.texts_a, read.texts_b, read.labels) == (["5"], ["1.5"], [1])


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("train.csv", "text,claim,answer\na,b\n", ":2: 2 fields instead of 3"),
    ("train.csv", "text,claim\na,b\n", ":1: no column 'answer'"),
    ("train.csv", "text,claim,text,answer\na,b,c,Yes\n", ":1: the column 'text' is there twice"),
    ("train.csv", 'text,claim,answer\na,b,Yes\n"a,b,Yes\n', ":3: not CSV"), ("train.csv", "\ufeff", ":1: the file is empty"),
    ("train.csv", "text,claim,answer\n", ":2: no examples"), ("train.jsonl", "[1]\n", ":1: not a JSON object"),
    ("train.jsonl", '{"text": "a", "claim": "b", "answer": "Yes"}\n{"text": \n', ":2: not a JSON object"),
    ("train.jsonl", '{"text": "a", "answer": "Yes"}\n', ":1: no column 'claim'"),
    ("train.jsonl", '{"text": "a", "claim": null, "answer": "Yes"}\n', ":1: 'claim' is neither a text nor a number"),
    ("train.jsonl", '{"text": "a", "claim": "\\ud800", "answer": "Yes"}\n', ":1: 'claim' has a broken"),
    ("train.jsonl", '{"text": "a", "claim": "b", "answer": 1}\n', ":1: unknown label '1'; Claims has No, Yes"),
    ("train.jsonl", "[" * 100_000 + "\n", ":1: not a JSON object"),
    ("train.tsv", "text\tclaim\tanswer\na\tb\n", ":2: 2 tab-separated"),
])
def test_a_file_that_is_not_in_its_format_is_named_with_its_line(make_task, tmp_path, name, content, reason):
    task = make_task(CLAIMS, files={"train": name, "dev": "other.tsv"})
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as error:
        read_split(task, tmp_path, "train")
    assert str(error.value).startswith(f"{tmp_path / name}{reason}") and "\n" not in str(error.value)


def test_a_score_outside_the_range_is_named(make_task, tmp_path):
    task = make_task(RATINGS)
    (tmp_path / "train.tsv").write_text("text\tstars\na\t10\nb\t0.5\n")
    with pytest.raises(InputError, match=r"train\.tsv:3: score '0\.5' is not a number from 1 to 10"):
        read_split(task, tmp_path, "train")


def test_predictions_have_the_index_of_the_task_and_stay_in_its_range(make_task, tmp_path):
    (tmp_path / "test.tsv").write_text("key\ttext\nx9\ta\nx8\tb\n")
    read = read_split(make_task(RATINGS, index_column="key"), tmp_path, "test")
    path = write_predictions(make_task(RATINGS), "test", read.index, [0.2, 3.14159], tmp_path)
    assert path.name == "Ratings.tsv" and path.read_text() == "index\tprediction\nx9\t1.000\nx8\t3.142\n"
    assert read_split(make_task(RATINGS), tmp_path, "test").index == ["0", "1"]
    narrow = write_predictions(make_task(RATINGS, range=[0, 0.01]), "test", ["0"], [0.0012345], tmp_path)
    assert narrow.read_text().endswith("0\t0.00123\n")


def test_an_index_that_would_break_the_predictions_is_refused(make_task, tmp_path):
    task = make_task(RATINGS, index_column="key", files={"train": "a.tsv", "dev": "b.tsv", "test": "test.csv"})
    (tmp_path / "test.csv").write_text('key,text\n"a\tb",c\n')
    with pytest.raises(InputError, match=r"test\.csv:2: the index 'a\\tb' has a tab"):
        read_split(task, tmp_path, "test")
