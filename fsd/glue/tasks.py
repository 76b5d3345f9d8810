"""The nine GLUE tasks: their labels, official files and metrics. Imports only light modules."""

from dataclasses import dataclass, field

from fsd.system.errors import InputError

WORD_LABELS = ("entailment", "not_entailment")
NUMBER_LABELS = ("0", "1")
METRIC_NAMES = ("mcc", "acc", "f1", "acc_and_f1", "pearson", "spearmanr", "corr", "mnli/acc", "mnli-mm/acc")


@dataclass(frozen=True)
class Task:
    """One GLUE task. A class id is an index into ``labels``, and into ``file_labels``, the names in the task's files.

    ``files`` maps a split to its file name; ``rows`` maps a split to the row count of the official file (for QQP without
    the short rows).
    """

    name: str
    labels: tuple
    file_labels: tuple
    text_columns: tuple
    label_column: str
    main_metric: str
    rows: dict = field(compare=False)
    index_column: str = "index"
    files: dict = field(compare=False, default_factory=lambda: {s: f"{s}.tsv" for s in ("train", "dev", "test")})

    @property
    def pair(self):
        """Whether an example is a pair of texts."""
        return len(self.text_columns) == 2

    @property
    def regression(self):
        """Whether the label is a score (STS-B, 0 to 5) instead of a class."""
        return not self.labels

    @property
    def num_logits(self):
        """Number of model outputs: one per class, or one score."""
        return len(self.labels) or 1

    @property
    def dev_splits(self):
        """Labelled splits for evaluation: dev, and for MNLI dev-mm."""
        return tuple(split for split in self.files if split.startswith("dev"))

    @property
    def test_splits(self):
        """Unlabelled splits for the leaderboard: test, and for MNLI test-mm and ax."""
        return tuple(split for split in self.files if split.startswith(("test", "ax")))

    @property
    def leaderboard_files(self):
        """Test split → file name of its predictions on the GLUE site."""
        if self.name == "MNLI":
            return {"test": "MNLI-m.tsv", "test-mm": "MNLI-mm.tsv", "ax": "AX.tsv"}
        return {"test": f"{self.name}.tsv"}


def _rows(train, dev, test):
    return {"train": train, "dev": dev, "test": test}


TASKS = (
    Task("CoLA", ("unacceptable", "acceptable"), NUMBER_LABELS, ("sentence",), "label", "mcc", _rows(8551, 1043, 1063)),
    Task("SST-2", ("negative", "positive"), NUMBER_LABELS, ("sentence",), "label", "acc", _rows(67349, 872, 1821)),
    Task("MRPC", ("not_equivalent", "equivalent"), NUMBER_LABELS, ("#1 String", "#2 String"), "Quality", "acc_and_f1",
         _rows(3668, 408, 1725)),
    Task("STS-B", (), (), ("sentence1", "sentence2"), "score", "corr", _rows(5749, 1500, 1379)),
    Task("QQP", ("not_duplicate", "duplicate"), NUMBER_LABELS, ("question1", "question2"), "is_duplicate",
         "acc_and_f1", _rows(363846, 40430, 390965), index_column="id"),
    Task("MNLI", ("contradiction", "entailment", "neutral"), ("contradiction", "entailment", "neutral"),
         ("sentence1", "sentence2"), "gold_label", "mnli/acc",
         {"train": 392702, "dev": 9815, "dev-mm": 9832, "test": 9796, "test-mm": 9847, "ax": 1104},
         files={"train": "train.tsv", "dev": "dev_matched.tsv", "dev-mm": "dev_mismatched.tsv",
                "test": "test_matched.tsv", "test-mm": "test_mismatched.tsv", "ax": "AX.tsv"}),
    Task("QNLI", WORD_LABELS, WORD_LABELS, ("question", "sentence"), "label", "acc", _rows(104743, 5463, 5463)),
    Task("RTE", WORD_LABELS, WORD_LABELS, ("sentence1", "sentence2"), "label", "acc", _rows(2490, 277, 3000)),
    Task("WNLI", ("not_entailment", "entailment"), NUMBER_LABELS, ("sentence1", "sentence2"), "label", "acc",
         _rows(635, 71, 146)),
)


def plain_name(name):
    """The name of a task or folder in lower case, only letters and digits."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def find_task(name):
    """The :class:`Task` called ``name``; case and hyphens do not matter. InputError for an unknown name."""
    for task in TASKS:
        if plain_name(task.name) == plain_name(name):
            return task
    names = ", ".join(task.name for task in TASKS)
    raise InputError(f"--task_name {name!r} is not a GLUE task; choose one of {names}")


def label_order(task, id2label):
    """The permutation p that puts ``model_logits[:, p]`` in the task's class order, found from the model's label names.

    ``id2label`` maps the model's class id (int or str) to its name. Names may be the task's or those in its files, in any
    case, with "-" or " " for "_". Returns None if the model has no names (LABEL_0 or 0, ...) or the task is regression.
    InputError if the names are not those of this task.
    """
    names = {int(at): str(name).lower().replace("-", "_").replace(" ", "_") for at, name in id2label.items()}
    if task.regression:
        return None
    for known in (task.labels, task.file_labels):
        if sorted(names.values()) == sorted(known) and sorted(names) == list(range(len(known))):
            at_name = {name: at for at, name in names.items()}
            return [at_name[name] for name in known]
    if all(name in (f"label_{at}", str(at)) for at, name in names.items()):
        return None
    raise InputError(f"the model's labels are {', '.join(map(str, id2label.values()))}, {task.name}'s are "
                     f"{', '.join(task.labels)}; give a model of this task")
