"""Write small corpora of all nine GLUE tasks, in the official layout, from sentence templates, without a download.

    python scripts/make_toy_glue.py --output_dir DIR

The text determines each label, by the rule in the docstring of the task's function, so a small BERT can learn the tasks
from a random start. The scores show only that a program works; they say nothing about real language. Word frequencies
differ, as in real text. With equal frequencies, many rules about two sentences would leave no trace in a single sentence,
and a small random model would not start to learn.

The output folder also gets vocab.txt, a lower-case WordPiece vocabulary of all words in the templates and of single
characters. It is always the same.
"""

import fsd.cli.early_signals  # noqa: F401

import os
import random
import re
import string
from functools import partial
from pathlib import Path

from fsd.cli.arguments import add_seed_argument
from fsd.cli.parser import Parser, number
from fsd.glue import layout
from fsd.glue.layout import file_text
from fsd.glue.tasks import find_task
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder, write_text
from fsd.system.random_streams import stream_seed

from toy_glue.inference import mnli, qnli, rte, wnli
from toy_glue.paraphrase import mrpc, qqp, stsb
from toy_glue.single import cola, sst2

MAKERS = {
    "CoLA": cola,
    "SST-2": sst2,
    "MRPC": mrpc,
    "STS-B": stsb,
    "QQP": qqp,
    "MNLI": mnli,
    "QNLI": qnli,
    "RTE": rte,
    "WNLI": wnli,
}
USUAL_SPLITS = ("dev", "test", "train")
SPLITS = {"MNLI": ("dev_matched", "dev_mismatched", "test_matched", "test_mismatched", "AX", "train")}


def cells(task, index, texts, label, genre):
    """{column name: value} of one row, for the columns of all the task's files."""
    first, second = texts[0], texts[-1]
    texts = {"sentence": second, "sentence1": first, "sentence2": second, "question": first}
    texts |= {"question1": first, "question2": second, "#1 String": first, "#2 String": second}
    labels = dict.fromkeys(("label", "Quality", "is_duplicate", "gold_label"), label)
    labels |= {f"label{annotator}": label for annotator in range(1, 6)}
    if task == "CoLA":
        labels["mark"] = "" if label else "*"
    if task == "STS-B":
        labels["score"] = f"{label:.3f}"
    numbers = dict.fromkeys(("index", "id", "promptID", "pairID"), index)
    numbers |= dict.fromkeys(("#1 ID", "qid1"), 2 * index + 1) | dict.fromkeys(("#2 ID", "qid2"), 2 * index + 2)
    constants = dict.fromkeys(layout.PARSES.split(","), "na") | {"source": "toy", "genre": genre, "filename": "toy"}
    constants |= {"year": "2022", "old_index": f"{index:04d}", "source1": "none", "source2": "none"}
    return texts | labels | numbers | constants


def split_text(task, split, rows):
    """The text of one split's file, with the oddities of the official one (no header, byte-order mark, no final newline)."""
    genre = "toy" if task != "MNLI" else "radio" if "mismatched" in split else "letters"
    text = file_text(task, split, [cells(task, index, texts, label, genre) for index, (texts, label) in enumerate(rows)])
    mark = "\ufeff" if task == "MRPC" and split != "test" else ""
    return mark + (text.removesuffix("\n") if (task, split) == ("CoLA", "dev") else text)


def distinct_rows(maker, rng, count, seen):
    """``count`` rows (texts, label). The texts of a row differ, and are new to ``seen``, which gets them."""
    rows = []
    while len(rows) < count:
        texts, label = maker(rng)
        if texts not in seen and len(set(texts)) == len(texts):
            seen.add(texts)
            rows.append((texts, label))
    return rows


def make_task(task, sizes, seed):
    """Yield (split, rows) without repeated texts. Train comes last, so that its size does not change the other splits."""
    rng, seen = random.Random(stream_seed(seed, f"toy {task}")), set()
    for split in SPLITS.get(task, USUAL_SPLITS):
        maker = partial(mnli, genre="radio") if "mismatched" in split else MAKERS[task]
        kind = "test" if split == "AX" else split.split("_")[0]
        yield split, distinct_rows(maker, rng, sizes[kind], seen)


def words(text):
    """Split ASCII ``text`` as BERT's basic tokenizer does: lower-case words and single punctuation characters."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def vocabulary():
    """The tokens of vocab.txt: special tokens, characters, their ## variants, and all words in the templates."""
    rng, known = random.Random(0), set()
    for maker in (*MAKERS.values(), partial(mnli, genre="radio")):
        for _ in range(4000):  # enough: each word occurs more than once in 500 rows
            known.update(word for text in maker(rng)[0] for word in words(text))
    characters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return special + characters + [f"##{character}" for character in characters] + sorted(known - set(characters))


def parse_arguments():
    parser = Parser(__doc__)
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="folder for the tasks' folders and vocab.txt; created if missing. Replaces the files of an earlier toy "
        "corpus, and no others",
    )
    parser.add_argument("--tasks", nargs="+", default=list(MAKERS), help="tasks to write; MNLI includes AX")
    parser.add_argument("--train_rows", type=number(int, 1, 2000), default=2000, help="rows of each train split")
    parser.add_argument("--dev_rows", type=number(int, 1, 1000), default=300, help="rows of each dev split")
    parser.add_argument("--test_rows", type=number(int, 1, 1000), default=100, help="rows of each test split and AX")
    add_seed_argument(parser)
    arguments = parser.parse_args()
    arguments.tasks = list(dict.fromkeys(find_task(name).name for name in arguments.tasks))
    return arguments


def main():
    arguments = parse_arguments()
    check_folder(arguments.output_dir, f"--output_dir {arguments.output_dir}")
    sizes = {"train": arguments.train_rows, "dev": arguments.dev_rows, "test": arguments.test_rows}
    pieces = vocabulary()
    check_earlier(arguments.output_dir, arguments.tasks, pieces)
    write_text(arguments.output_dir / "vocab.txt", "\n".join(pieces) + "\n")
    for task in arguments.tasks:
        for split, rows in make_task(task, sizes, arguments.seed):
            write_text(arguments.output_dir / file_name(task, split), split_text(task, split, rows))
    print(f"{arguments.output_dir}: {', '.join(arguments.tasks)}; vocab.txt of {len(pieces)} pieces")


def file_name(task, split):
    return Path("AX", "AX.tsv") if split == "AX" else Path(task, f"{split}.tsv")


def check_earlier(folder, tasks, pieces):
    """InputError if the folder has a file that would be replaced, and that has words of no toy corpus."""
    ours = {Path("vocab.txt"): {*pieces, *words(" ".join(pieces))}}
    for task in tasks:
        labels = find_task(task).file_labels or (0,)
        for split in SPLITS.get(task, USUAL_SPLITS):
            ours[file_name(task, split)] = {*pieces, *words(split_text(task, split, [([""], label) for label in labels]))}
    for name, known in ours.items():
        if os.path.lexists(folder / name) and not is_toy(folder / name, known):
            raise InputError(f"{folder / name} is not of a toy corpus; name another --output_dir")


def is_toy(path, known):
    """Whether a path is a file that can be read, and all its words are numbers or among the ``known`` ones."""
    if not path.is_file():  # reading a FIFO would block
        return False
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return False
    return all(word in known or word.isdecimal() for word in words(text))


if __name__ == "__main__":
    exit_on_input_error(main)
