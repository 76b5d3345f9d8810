"""The built-in corpus: the official layout, labels that follow from the text, and a vocabulary that covers it."""

import json
import re
from collections import Counter

import pytest
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


# ---- Labels, worked out anew from the texts ----


def words(text):
    return re.findall(r"\w+", text.lower())


def cola_label(sentence):
    """Acceptable: determiner, adjective before noun, and number agree in every place that shows it."""
    singular = re.fullmatch(
        r"(?:the|this|that|every|each)(?: ADJ)? NOUN(?: near the NOUNS?)? (?:MODAL VERB|VERBs|REFLs itself)(?: PLACE)*",
        _shape(sentence),
    )
    plural = re.fullmatch(
        r"(?:the|these|those|many|several)(?: ADJ)? NOUNS(?: near the NOUNS?)? (?:MODAL VERB|VERB|REFL themselves)(?: PLACE)*",
        _shape(sentence),
    )
    return int(bool(singular or plural))


def _shape(sentence):
    nouns = "dog|cat|horse|bird|duck|goat|bear|rabbit|tiger|robot"
    text = " ".join(words(sentence))
    text = re.sub(r"by the river|behind the house|in the garden|on the hill|under the tree|at the lake", "PLACE", text)
    text = re.sub(r"every day|at night|in summer|after lunch|before dinner|on sundays", "PLACE", text)
    text = re.sub(rf"\b(?:{nouns})(s?)\b", lambda match: "NOUN" + match[1].upper(), text)
    text = re.sub(r"\b(?:old|young|small|happy|brown|hungry|quiet|clever)\b", "ADJ", text)
    text = re.sub(r"\b(?:can|will|must|should)\b", "MODAL", text)
    text = re.sub(r"\b(?:see|help|follow|like)(s?)\b", r"REFL\1", text)
    return re.sub(r"\b(?:sleep|run|sing|wait|smile|dance|swim|jump|eat)(s?)\b", r"VERB\1", text)


def sst2_label(text):
    good = set("wonderful charming funny brilliant moving fresh clever lovely gripping superb warm elegant".split())
    bad = set("dull tedious clumsy boring shallow awful stale silly lifeless weak messy bland".split())
    clauses = [clause for clause in text.split(" , ") if "although" not in clause]
    votes = set()
    for clause in clauses:
        denied = False
        for word in words(clause):
            denied = denied or word in ("not", "never", "hardly", "far")
            if word in good | bad:
                votes.add(int((word in good) != denied))
                denied = False
    assert len(votes) == 1, text
    return votes.pop()


def mrpc_label(first, second):
    synonyms = {"purchased": "bought", "auctioned": "sold", "restored": "repaired", "wrecked": "damaged"}
    synonyms |= {"applauded": "praised", "attacked": "criticised", "welcomed": "accepted", "refused": "rejected"}
    ignored = {"the", "on", "officials", "said", "were", "by"}
    return int(_meaning(first, synonyms, ignored) == _meaning(second, synonyms, ignored))


def _meaning(text, synonyms, ignored):
    return {synonyms.get(word, word) for word in words(text) if word not in ignored}


def stsb_score(first, second):
    return float(len((set(words(first)) & set(words(second))) - {"a", "the", "in"}))


def qqp_label(first, second):
    """Duplicates differ in nothing but the words that ask."""
    asks = {
        "how do i|what is the best way to|can you explain how to": "how",
        "why do people|what are good reasons to": "why",
        "when should i|what is the right time to": "when",
        "where can i|which place is best to": "where",
        "how much does it cost to|what is a fair price to": "price",
    }
    meanings = [re.sub(pattern, asked, text.lower()) for text in (first, second) for pattern, asked in asks.items()]
    own = [[meaning for meaning in part if meaning.split()[0] in asks.values()] for part in (meanings[:5], meanings[5:])]
    found = [{meaning for meaning in part if meaning != text.lower()} for part, text in zip(own, (first, second), strict=True)]
    assert all(len(meaning) == 1 for meaning in found), (first, second)
    return int(found[0] == found[1])


def mnli_label(premise, hypothesis):
    wider = {"poodle": "dog", "spaniel": "dog", "terrier": "dog", "robin": "bird", "sparrow": "bird", "parrot": "bird"}
    wider |= {"boy": "child", "girl": "child", "toddler": "child"}
    wider |= {"pianist": "musician", "violinist": "musician", "drummer": "musician"}
    follows = {"sleeping": "resting", "running": "moving", "shouting": "making noise", "smiling": "looking happy"}
    follows |= {"eating": "having food", "swimming": "getting wet"}
    opposite = {"sleeping": "jumping", "running": "sitting", "shouting": "being silent", "smiling": "crying"}
    opposite |= {"eating": "refusing food", "swimming": "staying dry"}
    facts = r"with a sister|for the first time|because of the weather|before a long journey|to win a prize"
    doing = next(word for word in words(premise) if word in follows)
    assert wider[next(word for word in words(premise) if word in wider)] in words(hypothesis)
    assert not re.search(r"in the park|near the lake|at the station|on the lawn|by the gate|behind the shop", hypothesis) or (
        set(re.findall(r"(?:in|near|at|on|by|behind) the \w+", hypothesis)) <= set(re.findall(r"\w+ the \w+", premise))
    )
    if f"not {doing}" in hypothesis or (opposite[doing] in hypothesis and f"not {opposite[doing]}" not in hypothesis):
        return "contradiction"
    assert any(claim in hypothesis for claim in (doing, follows[doing], f"not {opposite[doing]}"))
    return "entailment" if set(re.findall(facts, hypothesis)) <= set(re.findall(facts, premise)) else "neutral"


def qnli_label(question, text):
    answers = {
        "where": "in the market|at the station|near the harbour|outside the bank",
        "when": "on monday|last night|in the morning|two weeks ago",
        "how": "by accident|without any help|with great care|by asking around",
        "why": "to please a friend|because of a bet|for the money|out of habit",
    }
    asked, _, _, who = words(question)[:4]
    return "entailment" if re.search(answers[asked], text.lower()) and who == words(text)[1] else "not_entailment"


def rte_label(premise, hypothesis):
    name, role, town, rest = re.fullmatch(r"(\w+), the (\w+) of (\w+), (.+)\.", premise).groups()
    verbs, stem, site = re.fullmatch(r"(\w+ (?:able )?to) (\w+) (.+)", rest).groups()
    true = {f"{name} is the {role} of {town}."}
    if verbs in ("managed to", "remembered to", "was able to"):
        true.add(f"{name} {stem}{'d' if stem == 'close' else 'ed'} {site}.")
    if verbs in ("failed to", "refused to", "forgot to"):
        true.add(f"{name} did not {stem} {site}.")
    return "entailment" if hypothesis in true else "not_entailment"


def wnli_label(story, claim):
    """The pronoun stands for the first noun with these words, for the second with the others."""
    first_reasons = set("big large wide kind strong helpful hungry fast keen".split())
    second_reasons = set("small narrow tiny ill weak lost slow lame unwary".split())
    reason = words(claim)[-1]
    assert reason in first_reasons | second_reasons and words(story)[-1] == reason
    return int((story.index(f" {words(claim)[1]} ") < story.index(_middle(story))) == (reason in first_reasons))


def _middle(story):
    return re.search(r"not (?:fit|go|put) into|helped|supported|assisted|chased|hunted|caught", story)[0]


RULES = {
    "CoLA": cola_label,
    "SST-2": sst2_label,
    "MRPC": mrpc_label,
    "STS-B": stsb_score,
    "QQP": qqp_label,
    "MNLI": mnli_label,
    "QNLI": qnli_label,
    "RTE": rte_label,
    "WNLI": wnli_label,
}


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
