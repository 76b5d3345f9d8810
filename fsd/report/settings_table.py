"""A table for experiments that train one method with several settings: each setting's scores beside those of the first."""

from fsd.glue.metrics import main_metric
from fsd.glue.tasks import find_task
from fsd.records.results import row_flags
from fsd.report.names import LABELS, LARGE_TASKS, NAMES, SMALL_TASKS
from fsd.report.notes import mixed_teachers, other_encoder
from fsd.report.runs import CHANCE, of
from fsd.report.score_tables import percent
from fsd.report.statistics import summary
from fsd.report.table import Line, Table, Value


def settings_table(reproduction):
    """Scores and CKA of each setting of each method that was trained with several; None if there is no such method.

    The settings of a method's first run have the method's name alone. Others tell the flags that differ from these.
    """
    students = reproduction.students
    counts = students.groupby(["task", "method"])["flags"].nunique()
    pairs = [pair for pair, count in counts.items() if count > 1]
    tasks = [task for task in SMALL_TASKS + LARGE_TASKS if task in {task for task, _ in pairs}]
    columns = [f"{task} {name}" for task in tasks for name in (main_metric(find_task(task)), "CKA", "CKA by chance")]
    lines = {}
    for method in LABELS:
        for task in [task for task in tasks if (task, method) in pairs]:
            runs, analyses = of(students, task, method), of(reproduction.analyses, task, method)
            first = row_flags(runs.iloc[0])
            for flags, of_flags in runs.groupby("flags", sort=False):
                line = lines.setdefault(_label(method, first, row_flags(of_flags.iloc[0])), {})
                analysed = analyses[analyses["flags"] == flags]
                line[columns[3 * tasks.index(task)]] = percent(of_flags["score"])
                for place, name in enumerate(("mean_diagonal", CHANCE), start=1):
                    mean, sd, count = summary(100 * analysed[name])
                    line[columns[3 * tasks.index(task) + place]] = Value(mean, sd, count)
    if not lines:
        return None
    shown = students[students["task"].isin(tasks)]
    notes = [NAMES, "A method's name alone stands for the settings of its first run; the other rows tell what differs from them.",
             "CKA: mean diagonal of the CKA map between teacher and student. By chance: that of unrelated features of the same "
             "effective dimensions.",
             *mixed_teachers(shown), *other_encoder(shown)]
    caption = "Settings: scores on dev and CKA, in percent, mean ± standard deviation (number of runs)"
    return Table("settings", caption, columns, [Line(label, "ours", values) for label, values in lines.items()], notes)


def _label(method, first, flags):
    """A row's label: "FSD, debiased, gamma_m 0.5"."""
    parts = [LABELS[method]]
    for name in sorted(first.keys() | flags.keys()):
        value = flags.get(name, False)  # rows of versions without the flag
        if value != first.get(name, False):
            parts.append(name if value is True else f"no {name}" if value is False else f"{name} {value}")
    return ", ".join(parts)
