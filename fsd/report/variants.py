"""Of a method that was trained with several settings: which of them tables and figures show, and what the others change."""

import json

from fsd.cli.settings import WITHOUT_INFLUENCE
from fsd.records.results import row_flags
from fsd.reproduction.programs import PROGRAMS, defaults

SHAPE = ("student_layers", "student_hidden_size")


def settings_text(row):
    """The flags of a results row and its student's shape as one text, the same for equal settings; "" for a row without flags.

    A flag that the row's version did not have has its default, as :func:`fsd.reproduction.programs.is_same_run` takes it.
    """
    flags, method = row_flags(row), "teacher" if row["role"] == "teacher" else row["method"]
    if not flags:
        return ""
    settings = (defaults(method) if method in {"teacher", *PROGRAMS} else {}) | flags
    if method != "teacher":  # flags name the student's config by its path, which does not count
        settings |= {name: row[name] for name in SHAPE if row[name]}
    on = {name for name, value in settings.items() if value is not None and value is not False}
    return json.dumps({name: settings[name] for name in sorted(on - WITHOUT_INFLUENCE)})


def changes(base, other):
    """What the second of two :func:`settings_text` has in another way than the first: ["debiased", "gamma_m 0.5"]."""
    if base and not other:
        return ["settings not known"]
    base, other = (json.loads(text or "{}") for text in (base, other))
    told = []
    for name in sorted(base.keys() | other.keys()):
        value = other.get(name, False)
        if value != base.get(name, False):
            told.append(name if value is True else f"no {name}" if value is False else f"{name} {value}")
    return told


def main_settings(texts):
    """Of the :func:`settings_text` of some runs, the one that the others differ least from.

    Several may be as near. Then that of most runs counts, and of those the latest. The text of rows without flags is taken
    only if there is no other.

    Args:
        texts: pandas series, a text a run, in the order of the runs.
    """
    counts = texts.value_counts()
    known = [text for text in texts.unique()[::-1] if text]
    return min(known or [""], key=lambda text: (sum(len(changes(text, other)) for other in counts.index), -counts[text]))


def with_main_settings(runs):
    """The rows of a frame of runs that have the :func:`main_settings` of their task, method and batch size."""
    texts = runs.groupby(["task", "method", "batch_size"], dropna=False)["flags"]
    return runs[runs["flags"] == texts.transform(main_settings)]
