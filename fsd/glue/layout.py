"""The columns of the official GLUE files, for programs that write such files. Imports nothing."""

PAIR = "index,sentence1,sentence2"
MRPC_TEXTS = "#1 ID,#2 ID,#1 String,#2 String"
STSB_TEXTS = "index,genre,filename,year,old_index,source1,source2,sentence1,sentence2"
PARSES = "sentence1_binary_parse,sentence2_binary_parse,sentence1_parse,sentence2_parse"
MNLI_TEXTS = f"index,promptID,pairID,genre,{PARSES},sentence1,sentence2"
# Columns of train and dev, and of test.
COLUMNS = {
    "CoLA": ("source,label,mark,sentence", "index,sentence"),
    "SST-2": ("sentence,label", "index,sentence"),
    "MRPC": (f"Quality,{MRPC_TEXTS}", f"index,{MRPC_TEXTS}"),
    "STS-B": (f"{STSB_TEXTS},score", STSB_TEXTS),
    "QQP": ("id,qid1,qid2,question1,question2,is_duplicate", "id,question1,question2"),
    "MNLI": (f"{MNLI_TEXTS},label1,gold_label", MNLI_TEXTS),
    "QNLI": ("index,question,sentence,label", "index,question,sentence"),
    "RTE": (f"{PAIR},label", PAIR),
    "WNLI": (f"{PAIR},label", PAIR),
}
MNLI_DEV_COLUMNS = f"{MNLI_TEXTS},label1,label2,label3,label4,label5,gold_label"


def columns(task, split):
    """The names of a file's columns, in order.

    Args:
        task: the task's name.
        split: a split, such as "dev-mm" or "ax", or its file's name without the ending, such as "dev_mismatched" or "AX".
    """
    if split.lower() == "ax":
        return PAIR.split(",")
    if task == "MNLI" and split.startswith("dev"):
        return MNLI_DEV_COLUMNS.split(",")
    return COLUMNS[task][split.startswith("test")].split(",")


def file_text(task, split, rows):
    """The text of a file; CoLA's train and dev have no header.

    Args:
        rows: for each row a dictionary, column → cell; others of its entries are left out, cells without one stay empty.
    """
    names = columns(task, split)
    lines = ["\t".join(names)] if task != "CoLA" or split == "test" else []
    lines += ["\t".join(str(row.get(name, "")) for name in names) for row in rows]
    return "\n".join(lines) + "\n"
