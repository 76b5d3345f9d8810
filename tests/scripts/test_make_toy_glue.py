"""The built-in corpus: the official layout, labels that follow from the text, and a vocabulary that covers it."""

import json
import re
from collections import Counter

import pytest
from toy_glue_labels import RULES
from transformers import BertTokenizer

from fsd.glue.files import read_split
from fsd.glue.tasks import TASKS, find_task

SIZES = {"train": 400, "dev": 120, "test": 30, "ax": 30}
PARSES = "sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse".split()
MNLI = ["index", "promptID", "pairID", "genre", *PARSES, "sentence1", "sentence2"]
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2".split()
MRPC = ["#1 ID", "#2 ID", "#1 String", "#2 String"]
PAIR = ["index", "sentence1", "sentence2"]
HEADERS = {
    "CoLA/test": ["index", "sentence"],
    "SST-2/train": ["sentence", "label"],
    "SST-2/dev": ["sentence", "label"],
    "SST-2/test": ["index", "sentence"],
    "MRPC/train": ["\ufeffQuality", *MRPC],
    "MRPC/dev": ["\ufeffQuality", *MRPC],
    "MRPC/test": ["index", *MRPC],
    "STS-B/train": [*STSB, "score"],
    "STS-B/dev": [*STSB, "score"],
    "STS-B/test": STSB,
    "QQP/train": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "QQP/dev": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "QQP/test": ["id", "question1", "question2"],
    "MNLI/train": [*MNLI, "label1", "gold_label"],
    "MNLI/dev_matched": [*MNLI, "label1", "label2", "label3", "label4", "label5", "gold_label"],
    "MNLI/dev_mismatched": [*MNLI, "label1", "label2", "label3", "label4", "label5", "gold_label"],
    "MNLI/test_matched": MNLI,
    "MNLI/test_mismatched": MNLI,
    "QNLI/train": ["index", "question", "sentence", "label"],
    "QNLI/dev": ["index", "question", "sentence", "label"],
    "QNLI/test": ["index", "question", "sentence"],
    "RTE/train": [*PAIR, "label"],
    "RTE/dev": [*PAIR, "label"],
    "RTE/test": PAIR,
    "WNLI/train": [*PAIR, "label"],
    "WNLI/dev": [*PAIR, "label"],
    "WNLI/test": PAIR,
    "AX/AX": PAIR,
}


def flags(folder, *more, seed=42, train=SIZES["train"]):
    sizes = ["--train_rows", train, "--dev_rows", SIZES["dev"], "--test_rows", SIZES["test"]]
    return ["scripts/make_toy_glue.py", "--output_dir", folder, "--seed", seed, *sizes, *more]


@pytest.fixture
def corpus(run_script, tmp_path):
    """The folder of a corpus that was just made."""
    made = run_script(*flags(tmp_path / "glue"))
    assert made.status == 0, made.err
    return tmp_path / "glue"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def examples(corpus):
    """Each task and split, as the project reads it."""
    for task in TASKS:
        for split in task.files:
            yield task, split, read_split(task, corpus, split)


def test_files_and_columns_are_the_official_ones(corpus):
    files = contents(corpus)
    cola = {"CoLA/train.tsv", "CoLA/dev.tsv"}
    assert set(files) == {f"{name}.tsv" for name in HEADERS} | cola | {"vocab.txt"}
    for name, header in HEADERS.items():
        rows = [line.split("\t") for line in files[f"{name}.tsv"].decode().removesuffix("\n").split("\n")]
        assert rows[0] == header
        assert {len(row) for row in rows} == {len(header)}
        first = re.split(r"[/_]", name)[1].lower()
        assert len(rows) - 1 == SIZES[first], name
        if header[0] in ("index", "id"):
            assert [row[0] for row in rows[1:]] == [str(index) for index in range(len(rows) - 1)]
    for name in cola:
        rows = [line.split("\t") for line in files[name].decode().removesuffix("\n").split("\n")]
        assert len(rows) == SIZES[name[5:-4]]
        assert {(row[1], row[2]) for row in rows} == {("1", ""), ("0", "*")} and {len(row) for row in rows} == {4}
    assert not files["CoLA/dev.tsv"].endswith(b"\n") and files["CoLA/train.tsv"].endswith(b"\n")
    assert all(line.split("\t")[0].endswith(" ") for line in files["SST-2/dev.tsv"].decode().splitlines()[1:])
    assert b'\t"' in files["MRPC/train.tsv"] and b'""' in files["QQP/train.tsv"]  # quotes that no CSV reader survives


def test_every_split_is_read_and_no_texts_come_twice(corpus):
    seen = Counter()
    for task, split, data in examples(corpus):
        assert len(data.texts_a) == SIZES[split.split("-")[0]], (task.name, split)
        seen.update((task.name, *texts) for texts in zip(data.texts_a, data.texts_b or data.texts_a, strict=True))
        if split == "train" and not task.regression:
            count = Counter(data.labels)
            assert set(count) == set(range(len(task.labels)))
            assert 1 / len(task.labels) <= max(count.values()) / SIZES["train"] <= 0.65, (task.name, count)
        if split == "train" and task.regression:
            assert set(data.labels) == {0, 1, 2, 3, 4, 5}
    assert max(seen.values()) == 1


def test_one_seed_gives_one_corpus(corpus, run_script, tmp_path):
    for folder, options in {"again": {}, "seed": {"seed": 7}, "train": {"train": 50}}.items():
        assert run_script(*flags(tmp_path / folder, **options)).status == 0
    files, seed, train = contents(corpus), contents(tmp_path / "seed"), contents(tmp_path / "train")
    assert contents(tmp_path / "again") == files
    assert {name for name in files if files[name] == seed[name]} == {"vocab.txt"}
    # Dev and test stay, and a smaller train split is the beginning of a larger one.
    assert {name for name in files if files[name] != train[name]} == {f"{task.name}/train.tsv" for task in TASKS}
    assert all(files[f"{task.name}/train.tsv"].startswith(train[f"{task.name}/train.tsv"]) for task in TASKS)


def test_the_vocabulary_covers_every_word_and_every_character(corpus):
    entries = (corpus / "vocab.txt").read_text().splitlines()
    assert entries[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and len(set(entries)) == len(entries)
    tokenizer = BertTokenizer({entry: index for index, entry in enumerate(entries)}, do_lower_case=True)
    for _, _, data in examples(corpus):
        for text in {*data.texts_a, *(data.texts_b or ())}:
            tokens = tokenizer.tokenize(text)
            assert "".join(tokens) == text.lower().replace(" ", ""), text
            assert not any(token.startswith("##") for token in tokens), text
        pairs = tokenizer(data.texts_a, data.texts_b)["input_ids"]
        assert max(map(len, pairs)) <= 40
    assert "[UNK]" not in tokenizer.tokenize("Zyxwvut 0123456789 qjkh! (a+b)=c; {x}@y_z#$%^&*~`<>|\\/'\"[]")


def test_the_largest_corpus_fits_the_templates(run_script, tmp_path):
    made = run_script("scripts/make_toy_glue.py", "--output_dir", tmp_path / "glue", "--dev_rows", 1000, "--test_rows", 1000)
    assert made.status == 0, made.err
    assert all(len(read_split(task, tmp_path / "glue", "train").labels) == 2000 for task in TASKS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_labels_follow_from_the_text(task, corpus):
    for split in ("train", *task.dev_splits):
        data = read_split(task, corpus, split)
        pairs = zip(data.texts_a, data.texts_b, strict=True) if task.pair else [(text,) for text in data.texts_a]
        for texts, label in zip(pairs, data.labels, strict=True):
            told = label if task.regression else task.file_labels[label]
            assert str(RULES[task.name](*texts)) == str(told), texts


def test_bad_flags_are_refused_and_nothing_is_lost(corpus, run_script, tmp_path):
    before = contents(tmp_path)
    for bad in (["--train_rows", 2001], ["--train_rows", 0], ["--dev_rows", 1001], ["--test_rows", -1], ["--seed", "x"]):
        refused = run_script(*flags(corpus), *bad)
        assert refused.status == 2 and bad[0] in refused.last_line and "Traceback" not in refused.err, refused.err
    refused = run_script(*flags(corpus, "--tasks", "CoLA", "SNLI"))
    assert refused.status == 2 and "SNLI" in refused.last_line
    assert run_script("scripts/make_toy_glue.py").status == 2
    refused = run_script(*flags(corpus / "vocab.txt"))
    assert refused.status == 2 and "vocab.txt" in refused.last_line and "Traceback" not in refused.err
    assert contents(tmp_path) == before


def test_other_content_of_the_folder_stays(run_script, tmp_path):
    folder = tmp_path / "mine"
    (folder / "CoLA").mkdir(parents=True)
    (folder / "CoLA" / "notes.txt").write_text("mine")
    (folder / "RTE").mkdir()
    (folder / "RTE" / "train.tsv").write_text("real data")
    assert run_script(*flags(folder, "--tasks", "cola", "stsb")).status == 0
    files = contents(folder)
    assert files["CoLA/notes.txt"] == b"mine" and files["RTE/train.tsv"] == b"real data"
    ours = {f"{task}/{split}.tsv" for task in ("CoLA", "STS-B") for split in ("train", "dev", "test")}
    assert set(files) == ours | {"CoLA/notes.txt", "RTE/train.tsv", "vocab.txt"}
    assert len(read_split(find_task("cola"), folder, "train").labels) == SIZES["train"]


@pytest.mark.parametrize("name", ["RTE/train.tsv", "vocab.txt"])
def test_files_of_others_are_not_replaced(run_script, tmp_path, name):
    (tmp_path / "mine/RTE").mkdir(parents=True)
    (tmp_path / "mine" / name).write_text("real data")
    refused = run_script(*flags(tmp_path / "mine", "--tasks", "RTE"))
    assert refused.status == 2 and f"{name} is not of a toy corpus" in refused.last_line
    assert contents(tmp_path / "mine") == {name: b"real data"}


def test_files_of_others_beside_a_corpus_are_not_replaced(run_script, corpus):
    (corpus / "RTE/train.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\tReal words.\tOf mine.\tentailment\n")
    before = contents(corpus)
    refused = run_script(*flags(corpus, "--tasks", "RTE", seed=1))
    assert refused.status == 2 and "RTE/train.tsv is not of a toy corpus" in refused.last_line and contents(corpus) == before
    (corpus / "RTE/train.tsv").unlink()
    assert run_script(*flags(corpus, seed=1)).status == 0 and contents(corpus) != before


def test_the_small_bert_replaces_no_other_model(corpus, run_script, tmp_path):
    make = ["scripts/make_small_bert.py", "--vocab", corpus / "vocab.txt", "--hidden_size", 8, "--output_dir", tmp_path / "bert"]
    assert "wrote" in run_script(*make).out
    before = contents(tmp_path / "bert")
    config = json.loads(before["config.json"]) | {"transformers_version": "5.0"}
    (tmp_path / "bert/config.json").write_text(json.dumps(config))
    again = run_script(*make)
    assert again.status == 0 and "already there" in again.out
    refused = run_script(*make, "--num_attention_heads", 4)
    assert refused.status == 2 and "holds another model or none" in refused.last_line
    assert contents(tmp_path / "bert") == before | {"config.json": json.dumps(config).encode()}
    (tmp_path / "bert/config.json").write_text("[]")
    assert "holds another model or none" in run_script(*make).last_line
