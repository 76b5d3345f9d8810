"""Reading the nine official layouts with their traits, refusing what is not one, and the leaderboard's files."""

import codecs
import logging
import subprocess
import sys

import pytest

from fsd.glue.files import find_task_folder, has_split, read_split, split_path
from fsd.glue.predictions import write_predictions
from fsd.glue.tasks import TASKS, find_task, label_order
from fsd.system.errors import InputError

MNLI_HEAD = ("index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse "
             "sentence2_parse sentence1 sentence2").split()
STSB_HEAD = "index genre filename year old_index source1 source2 sentence1 sentence2".split()

# task, split, rows of the file as lists of fields, then what is read of it: texts, other texts, labels, index
LAYOUTS = [
    ("CoLA", "train", [["gj04", "1", "", "They sang."], ["gj04", "0", "*", 'They "sang']],
     ["They sang.", 'They "sang'], None, [1, 0], None),
    ("CoLA", "test", [["index", "sentence"], ["0", "Bill left."]], ["Bill left."], None, None, ["0"]),
    ("SST-2", "dev", [["sentence", "label"], ["a fine film ", "1"], ["dull ", "0"]],
     ["a fine film ", "dull "], None, [1, 0], None),
    ("SST-2", "test", [["index", "sentence"], ["0", "odd . "]], ["odd . "], None, None, ["0"]),
    ("MRPC", "train", [["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["1", "70", "71", 'He "said', "She"]],
     ['He "said'], ["She"], [1], None),
    ("MRPC", "test", [["index", "#1 ID", "#2 ID", "#1 String", "#2 String"], ["0", "10", "11", "a", "b"]],
     ["a"], ["b"], None, ["0"]),
    ("STS-B", "dev", [STSB_HEAD + ["score"], ["0", "g", "f", "2012", "7", "none", "none", "a", "b", "4.750"]],
     ["a"], ["b"], [4.75], None),
    ("STS-B", "test", [STSB_HEAD, ["5", "g", "f", "2012", "7", "none", "none", "a", "b"]], ["a"], ["b"], None, ["5"]),
    ("QQP", "train", [["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
                      ["9", "1", "2", '"What is ""x""?"', "", "0"]], ['"What is ""x""?"'], [""], [0], None),
    ("QQP", "test", [["id", "question1", "question2"], ["3", "a?", "b?"]], ["a?"], ["b?"], None, ["3"]),
    ("MNLI", "train", [MNLI_HEAD + ["label1", "gold_label"], ["0"] + ["na"] * 7 + ["a", "b", "entailment", "neutral"]],
     ["a"], ["b"], [2], None),
    ("MNLI", "dev-mm", [MNLI_HEAD + [f"label{n}" for n in range(1, 6)] + ["gold_label"],
                        ["0"] + ["na"] * 7 + ["a", "b"] + ["neutral"] * 5 + ["contradiction"]],
     ["a"], ["b"], [0], None),
    ("MNLI", "test", [MNLI_HEAD, ["17"] + ["na"] * 7 + ["a", "b"]], ["a"], ["b"], None, ["17"]),
    ("MNLI", "ax", [["index", "sentence1", "sentence2"], ["0", "a", "b"]], ["a"], ["b"], None, ["0"]),
    ("QNLI", "dev", [["index", "question", "sentence", "label"], ["0", "Who?", "He.", "not_entailment"]],
     ["Who?"], ["He."], [1], None),
    ("QNLI", "test", [["index", "question", "sentence"], ["0", "Who?", "He."]], ["Who?"], ["He."], None, ["0"]),
    ("RTE", "train", [["index", "sentence1", "sentence2", "label"], ["0", "a", "b", "entailment"]],
     ["a"], ["b"], [0], None),
    ("RTE", "test", [["index", "sentence1", "sentence2"], ["0", "a", "b"]], ["a"], ["b"], None, ["0"]),
    ("WNLI", "dev", [["index", "sentence1", "sentence2", "label"], ["0", "a", "b", "1"], ["1", "c", "d", "0"]],
     ["a", "c"], ["b", "d"], [1, 0], None),
    ("WNLI", "test", [["index", "sentence1", "sentence2"], ["0", "a", "b"]], ["a"], ["b"], None, ["0"]),
]


def write_tsv(root, task, split, rows, bom=b"", end="\n", last_end=True):
    """The file of ``split`` under the GLUE root ``root``, from rows of fields."""
    (root / task.name).mkdir(parents=True, exist_ok=True)
    path = split_path(task, root, split)
    path.parent.mkdir(exist_ok=True)
    text = end.join("\t".join(row) for row in rows) + (end if last_end else "")
    path.write_bytes(bom + text.encode())
    return path


@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8], ids=["plain", "bom"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("last_end", [True, False], ids=["end", "no-end"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=[f"{layout[0]}-{layout[1]}" for layout in LAYOUTS])
def test_reads_each_official_layout(tmp_path, layout, bom, end, last_end):
    name, split, rows, texts_a, texts_b, labels, index = layout
    task = find_task(name)
    path = write_tsv(tmp_path, task, split, rows, bom, end, last_end)
    read = read_split(task, tmp_path, split)
    assert (read.texts_a, read.texts_b, read.labels, read.index) == (texts_a, texts_b, labels, index)
    assert (read.task, read.name, read.path) == (task, split, path)


def test_every_task_and_kind_of_file_is_among_the_layouts():
    assert {name for name, *_ in LAYOUTS} == {task.name for task in TASKS}


def test_quotes_do_not_merge_rows_and_unicode_breaks_do_not_split_them(tmp_path):
    rows = [["sentence", "label"], ['"opened', "1"], ["next\x85\u2028line", "0"], ['closed"', "1"]]
    write_tsv(tmp_path, find_task("SST-2"), "train", rows)
    read = read_split(find_task("SST-2"), tmp_path, "train")
    assert read.texts_a == ['"opened', "next\x85\u2028line", 'closed"']


def test_columns_are_found_by_name_wherever_they_stand(tmp_path):
    rows = [["label", "sentence2", "note", "sentence1"], ["entailment", "b", "x", "a"]]
    write_tsv(tmp_path, find_task("RTE"), "train", rows)
    read = read_split(find_task("RTE"), tmp_path, "train")
    assert (read.texts_a, read.texts_b, read.labels) == (["a"], ["b"], [0])


QQP_HEAD = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]


def test_short_rows_of_qqp_are_skipped_with_one_warning(tmp_path, caplog):
    rows = [QQP_HEAD, ["1", "2", "3", "a", "b", "1"], ["4", "5", "6", "torn"], ["", "end of it", "0"],
            ["7", "8", "9", "c", "d", "0"]]
    write_tsv(tmp_path, find_task("QQP"), "train", rows)
    with caplog.at_level(logging.WARNING):
        read = read_split(find_task("QQP"), tmp_path, "train")
    assert (read.texts_a, read.labels) == (["a", "c"], [1, 0])
    assert len(caplog.messages) == 1 and "2 short rows" in caplog.messages[0]


def test_a_short_row_in_qqps_test_file_is_an_error_because_the_leaderboard_wants_every_row(tmp_path):
    write_tsv(tmp_path, find_task("QQP"), "test", [["id", "question1", "question2"], ["0", "a", "b"], ["1", "a"]])
    with pytest.raises(InputError, match=r"test\.tsv:3: 2 tab-separated fields instead of 3"):
        read_split(find_task("QQP"), tmp_path, "test")


RTE_HEAD = b"index\tsentence1\tsentence2\tlabel\n"
MALFORMED = [
    ("RTE", RTE_HEAD + b"0\ta\tb\tentailment\n1\ta\tb\n", ":3: 3 tab-separated fields instead of 4"),
    ("RTE", RTE_HEAD + b"0\ta\tb\tc\tentailment\n", ":2: 5 tab-separated fields instead of 4"),
    ("RTE", RTE_HEAD + b"0\ta\tb\tentailment\n\n1\ta\tb\tentailment\n", ":3: 1 tab-separated fields"),
    ("RTE", RTE_HEAD + b"0\ta\tb\tmaybe\n", ":2: unknown label 'maybe'"),
    ("RTE", RTE_HEAD + b"0\ta\tb\t1\n", ":2: unknown label '1'"),
    ("RTE", RTE_HEAD, ":2: no examples"),
    ("RTE", b"", ":1: the file is empty"),
    ("RTE", b"\n\n", ":1: the file is empty"),
    ("RTE", b"index\tsentence1\tlabel\n0\ta\tentailment\n", ":1: no column 'sentence2'"),
    ("RTE", b"index\tsentence1\tsentence2\n0\ta\tb\n", ":1: no column 'label'"),
    ("RTE", RTE_HEAD + b"0\ta\tb\tentailment\n1\t\xff\tb\tentailment\n", ":3: not UTF-8"),
    ("RTE", RTE_HEAD + b"0\ta\0\tb\tentailment\n", ":2: a NUL byte"),
    ("RTE", RTE_HEAD.decode().encode("utf-16"), ":1: a NUL byte"),
    ("CoLA", b"gj04\t1\t\tGood.\ngj04\t2\t\tBad.\n", ":2: unknown label '2'"),
    ("CoLA", b"source\tlabel\tmark\tsentence\ngj04\t1\t\tGood.\n", ":1: unknown label 'label'"),
    ("QQP", b"\t".join(c.encode() for c in QQP_HEAD) + b"\n1\t2\t3\ta\tb\t1\t1\n", ":2: 7 tab-separated fields"),
    ("QQP", b"\t".join(c.encode() for c in QQP_HEAD) + b"\n1\t2\n", ":2: no examples"),
    ("MNLI", "\t".join(MNLI_HEAD + ["label1", "gold_label"]).encode() + b"\n0" + b"\tna" * 10 + b"\t-\n",
     ":2: unknown label '-'"),
] + [("STS-B", b"sentence1\tsentence2\tscore\na\tb\t" + score + b"\n", ":2: score")
     for score in (b"nan", b"5.1", b"-0.1", b"inf", b"", b"high")]


@pytest.mark.parametrize("name, content, message", MALFORMED)
def test_a_malformed_file_is_named_with_its_line(tmp_path, name, content, message):
    task = find_task(name)
    path = write_tsv(tmp_path, task, "train", [])
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_split(task, tmp_path, "train")
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named_with_the_flag(tmp_path):
    (tmp_path / "RTE").mkdir()
    with pytest.raises(InputError, match=r"RTE/train\.tsv: .*--data_dir"):
        read_split(find_task("RTE"), tmp_path, "train")
    with pytest.raises(InputError, match="no split 'dev-mm'"):
        read_split(find_task("RTE"), tmp_path, "dev-mm")


def test_the_task_folder_is_the_data_dir_or_a_folder_in_it(tmp_path):
    task = find_task("STS-B")
    write_tsv(tmp_path, task, "train", LAYOUTS[6][2])
    assert find_task_folder(task, tmp_path) == find_task_folder(task, tmp_path / "STS-B") == tmp_path / "STS-B"
    (tmp_path / "STS-B").rename(tmp_path / "stsb")
    assert find_task_folder(task, tmp_path) == tmp_path / "stsb"
    for data_dir in (tmp_path / "nowhere", tmp_path / "stsb/train.tsv"):
        with pytest.raises(InputError, match="--data_dir"):
            find_task_folder(task, data_dir)
    with pytest.raises(InputError, match="--data_dir .* CoLA"):
        find_task_folder(find_task("CoLA"), tmp_path)


@pytest.mark.parametrize("place", ["AX/AX.tsv", "diagnostic/diagnostic.tsv", "AX.tsv", "MNLI/AX.tsv"])
def test_the_diagnostic_set_is_found_where_people_keep_it(tmp_path, monkeypatch, place):
    task = find_task("MNLI")
    (tmp_path / "MNLI").mkdir()
    assert not has_split(task, tmp_path, "ax")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("index\tsentence1\tsentence2\n0\ta\tb\n")
    (tmp_path / "MNLI/train.tsv").touch()
    monkeypatch.chdir(tmp_path / "MNLI")
    for data_dir in (tmp_path, tmp_path / "MNLI", "."):
        assert has_split(task, data_dir, "ax")
        assert read_split(task, data_dir, "ax").index == ["0"]


@pytest.mark.parametrize("name", ["sts-b", "STS-B", "stsb", "StsB", "sts_b"])
def test_task_names_in_any_case_with_or_without_hyphen(name):
    assert find_task(name).name == "STS-B"


def test_an_unknown_task_is_answered_with_the_names():
    with pytest.raises(InputError, match="CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI"):
        find_task("SNLI")


def test_what_a_task_says_of_itself():
    by_name = {task.name: task for task in TASKS}
    assert [name for name, task in by_name.items() if not task.pair] == ["CoLA", "SST-2"]
    assert [name for name, task in by_name.items() if task.regression] == ["STS-B"]
    assert {name: task.num_logits for name, task in by_name.items() if task.num_logits != 2} == {"STS-B": 1, "MNLI": 3}
    assert by_name["MNLI"].dev_splits == ("dev", "dev-mm")
    assert by_name["MNLI"].test_splits == ("test", "test-mm", "ax")
    for task in TASKS:
        assert set(task.rows) == set(task.files) == {"train", *task.dev_splits, *task.test_splits}
        assert set(task.leaderboard_files) == set(task.test_splits)
        assert len(task.labels) == len(task.file_labels)


@pytest.mark.parametrize("name, split, predictions, file, written", [
    ("CoLA", "test", [0, 1], "CoLA.tsv", ["0", "1"]),
    ("SST-2", "test", [1, 0], "SST-2.tsv", ["1", "0"]),
    ("MRPC", "test", [1, 0], "MRPC.tsv", ["1", "0"]),
    ("STS-B", "test", [-0.3, 5.2], "STS-B.tsv", ["0.000", "5.000"]),
    ("STS-B", "test", [2.34567, 0], "STS-B.tsv", ["2.346", "0.000"]),
    ("QQP", "test", [1, 0], "QQP.tsv", ["1", "0"]),
    ("MNLI", "test", [0, 1], "MNLI-m.tsv", ["contradiction", "entailment"]),
    ("MNLI", "test-mm", [2, 0], "MNLI-mm.tsv", ["neutral", "contradiction"]),
    ("MNLI", "ax", [1, 2], "AX.tsv", ["entailment", "neutral"]),
    ("QNLI", "test", [0, 1], "QNLI.tsv", ["entailment", "not_entailment"]),
    ("RTE", "test", [1, 0], "RTE.tsv", ["not_entailment", "entailment"]),
    ("WNLI", "test", [1, 0], "WNLI.tsv", ["1", "0"]),
])
def test_predictions_are_written_as_the_leaderboard_takes_them(tmp_path, name, split, predictions, file, written):
    path = write_predictions(find_task(name), split, ["7", "11"], predictions, tmp_path / "predictions")
    assert path == tmp_path / "predictions" / file
    assert path.read_text() == f"index\tprediction\n7\t{written[0]}\n11\t{written[1]}\n"


def test_predictions_that_are_no_numbers_leave_the_old_file(tmp_path):
    task = find_task("STS-B")
    path = write_predictions(task, "test", ["0"], [1.0], tmp_path)
    with pytest.raises(InputError, match="NaN"):
        write_predictions(task, "test", ["0"], [float("nan")], tmp_path)
    with pytest.raises(ValueError):
        write_predictions(task, "test", ["0", "1"], [1.0], tmp_path)
    assert path.read_text() == "index\tprediction\n0\t1.000\n"


@pytest.mark.parametrize("name, id2label, order", [
    ("RTE", {0: "LABEL_0", 1: "LABEL_1"}, None),
    ("RTE", {"0": "entailment", "1": "not_entailment"}, [0, 1]),
    ("RTE", {0: "Not Entailment", 1: "ENTAILMENT"}, [1, 0]),
    ("RTE", {0: "0", 1: "1"}, None),
    ("CoLA", {0: "0", 1: "1"}, [0, 1]),
    ("SST-2", {1: "NEGATIVE", 0: "POSITIVE"}, [1, 0]),
    ("MRPC", {0: "equivalent", 1: "not-equivalent"}, [1, 0]),
    ("MNLI", {"0": "entailment", "1": "neutral", "2": "contradiction"}, [2, 0, 1]),
    ("MNLI", {0: "neutral", 1: "contradiction", 2: "entailment"}, [1, 2, 0]),
    ("MNLI", {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, None),
    ("STS-B", {0: "LABEL_0"}, None),
])
def test_label_order_brings_a_models_logits_into_the_tasks_order(name, id2label, order):
    task = find_task(name)
    assert label_order(task, id2label) == order
    if order and "0" not in id2label.values():
        names = {int(at): label.lower().replace(" ", "_").replace("-", "_") for at, label in id2label.items()}
        assert tuple(names[at] for at in order) == task.labels


@pytest.mark.parametrize("name, id2label", [
    ("RTE", {0: "negative", 1: "positive"}),
    ("RTE", {0: "entailment", 1: "neutral", 2: "contradiction"}),
    ("MNLI", {0: "entailment", 1: "not_entailment"}),
    ("RTE", {0: "entailment", 1: "entailment"}),
    ("CoLA", {0: "acceptable", 2: "unacceptable"}),
])
def test_a_teacher_of_another_task_is_refused(name, id2label):
    with pytest.raises(InputError, match="give a model of this task"):
        label_order(find_task(name), id2label)


def test_importing_the_tasks_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'transformers', 'pandas', 'scipy', 'sklearn'}"
    code = f"import sys, fsd.glue; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
