"""Of a method that was trained with several settings: which of them tables and figures show, and what the others change."""

import json

from fsd.records.results import row_flags


def settings_text(row):
    """The flags of a results row as one text, the same for equal settings. Flags that are off are left out, as rows of
    versions without them have none; "" for a row without flags."""
    flags = row_flags(row)
    return json.dumps({name: flags[name] for name in sorted(flags) if flags[name] is not None and flags[name] is not False}) \
        if flags else ""


def changes(base, other):
    """What the second of two :func:`settings_text` has in another way than the first: ["debiased", "gamma_m 0.5"]."""
    base, other = (json.loads(text or "{}") for text in (base, other))
    told = []
    for name in sorted(base.keys() | other.keys()):
        value = other.get(name, False)
        if value != base.get(name, False):
            told.append(name if value is True else f"no {name}" if value is False else f"{name} {value}")
    return told


def main_settings(texts):
    """Of the :func:`settings_text` of some runs, the one that the others differ least from.

    Several may be as near. Then that of most runs counts, and of those the latest.

    Args:
        texts: pandas series, a text a run, in the order of the runs.
    """
    counts = texts.value_counts()
    return min(texts.unique()[::-1], key=lambda text: (sum(len(changes(text, other)) for other in counts.index), -counts[text]))


def with_main_settings(runs):
    """The rows of a frame of runs that have the :func:`main_settings` of their task, method and batch size."""
    texts = runs.groupby(["task", "method", "batch_size"], dropna=False)["flags"]
    return runs[runs["flags"] == texts.transform(main_settings)]
