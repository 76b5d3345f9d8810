"""The nine GLUE tasks, and the form that a task of one's own shares with them. Imports only light modules."""

from dataclasses import asdict, dataclass, field

from fsd.system.errors import InputError

WORD_LABELS = ("entailment", "not_entailment")
NUMBER_LABELS = ("0", "1")
NLI_LABELS = ("contradiction", "entailment", "neutral")
TWO_SENTENCES = ("sentence1", "sentence2")
COLA_COLUMNS = ("source", "label", "author_mark", "sentence")
ACCURACY_AND_F1 = ("acc_and_f1", "acc", "f1")
CORRELATIONS = ("corr", "pearson", "spearmanr")
METRIC_NAMES = ("mcc", "acc", "f1", "acc_and_f1", "pearson", "spearmanr", "corr", "mnli/acc", "mnli-mm/acc")


@dataclass(frozen=True)
class Task:
    """One task. A class id is an index into ``labels``, and into ``file_labels``, the names in the task's files.

    Attributes:
        labels: names of the classes; none for a regression task.
        text_columns: the columns of one text or two.
        metrics: the main metric first.
        files: split → file name.
        rows: split → row count of the official file (for QQP without the short rows); empty for a task of one's own.
        score_range: lowest and highest score of a regression task.
        index_column: the column that names a test row in the predictions; None counts the rows from 0.
        bare_columns: the columns of train and dev where these files have no header.
        leaderboard: test split → file name of its predictions, where that is not the task's name.
    """

    name: str
    labels: tuple
    file_labels: tuple
    text_columns: tuple
    label_column: str
    metrics: tuple
    files: dict = field(compare=False)
    rows: dict = field(compare=False, default_factory=dict)
    score_range: tuple | None = None
    index_column: str | None = "index"
    bare_columns: tuple = ()
    leaderboard: dict = field(compare=False, default_factory=dict)

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
        """Splits whose labels are not read: test, and for MNLI test-mm and ax."""
        return tuple(split for split in self.files if split.startswith(("test", "ax")))

    @property
    def leaderboard_files(self):
        """Test split → file name of its predictions."""
        return self.leaderboard or {split: f"{self.name}.tsv" for split in self.test_splits}

    @property
    def is_official(self):
        """Whether it is one of the nine."""
        return bool(self.rows)

    @property
    def definition(self):
        """What tells the task from others, as JSON: the name of one of the nine, everything of a task of one's own."""
        return self.name if self.is_official else asdict(self)


def _official(name, labels, file_labels, texts, label_column, metrics, train, dev, test, **rest):
    """One of the nine with files train.tsv, dev.tsv and test.tsv and their row counts."""
    files, rows = {split: f"{split}.tsv" for split in ("train", "dev", "test")}, {"train": train, "dev": dev, "test": test}
    return Task(name, labels, file_labels, texts, label_column, metrics, **{"files": files, "rows": rows} | rest)


TASKS = (
    _official("CoLA", ("unacceptable", "acceptable"), NUMBER_LABELS, ("sentence",), "label", ("mcc",), 8551, 1043, 1063,
              bare_columns=COLA_COLUMNS),
    _official("SST-2", ("negative", "positive"), NUMBER_LABELS, ("sentence",), "label", ("acc",), 67349, 872, 1821),
    _official("MRPC", ("not_equivalent", "equivalent"), NUMBER_LABELS, ("#1 String", "#2 String"), "Quality",
              ACCURACY_AND_F1, 3668, 408, 1725),
    _official("STS-B", (), (), TWO_SENTENCES, "score", CORRELATIONS, 5749, 1500, 1379, score_range=(0.0, 5.0)),
    _official("QQP", ("not_duplicate", "duplicate"), NUMBER_LABELS, ("question1", "question2"), "is_duplicate",
              ACCURACY_AND_F1, 363846, 40430, 390965, index_column="id"),
    _official("MNLI", NLI_LABELS, NLI_LABELS, TWO_SENTENCES, "gold_label", ("acc",), 392702, 9815, 9796,
              rows={"train": 392702, "dev": 9815, "dev-mm": 9832, "test": 9796, "test-mm": 9847, "ax": 1104},
              files={"train": "train.tsv", "dev": "dev_matched.tsv", "dev-mm": "dev_mismatched.tsv",
                     "test": "test_matched.tsv", "test-mm": "test_mismatched.tsv", "ax": "AX.tsv"},
              leaderboard={"test": "MNLI-m.tsv", "test-mm": "MNLI-mm.tsv", "ax": "AX.tsv"}),
    _official("QNLI", WORD_LABELS, WORD_LABELS, ("question", "sentence"), "label", ("acc",), 104743, 5463, 5463),
    _official("RTE", WORD_LABELS, WORD_LABELS, TWO_SENTENCES, "label", ("acc",), 2490, 277, 3000),
    _official("WNLI", ("not_entailment", "entailment"), NUMBER_LABELS, TWO_SENTENCES, "label", ("acc",), 635, 71, 146),
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
    raise InputError(f"{name!r} is not a GLUE task; choose one of {names}")


def plain_label(name):
    """The name of a class as models are compared by it: in lower case, with "_" for "-" and " "."""
    return str(name).lower().replace("-", "_").replace(" ", "_")


def label_order(task, id2label):
    """The permutation p that puts ``model_logits[:, p]`` in the task's class order, found from the model's label names.

    ``id2label`` maps the model's class id (int or str) to its name. Names may be the task's or those in its files, in any
    case, with "-" or " " for "_". Returns None if the model has no names (LABEL_0 or 0, ...) or the task is regression.
    InputError if the names are not those of this task.
    """
    if task.regression:
        return None
    names = {int(at): plain_label(name) for at, name in id2label.items()}
    for known in (list(map(plain_label, task.labels)), list(map(plain_label, task.file_labels))):
        if sorted(names.values()) == sorted(known) and sorted(names) == list(range(len(known))):
            at_name = {name: at for at, name in names.items()}
            return [at_name[name] for name in known]
    if all(name in (f"label_{at}", str(at)) for at, name in names.items()):
        return None
    raise InputError(f"the model's labels are {', '.join(map(str, id2label.values()))}, {task.name}'s are "
                     f"{', '.join(task.labels)}; give a model of this task")
