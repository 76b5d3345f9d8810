"""For experiments that train one method with several settings: a table and a figure of all settings, side by side."""

from matplotlib.lines import Line2D

from fsd.glue.metrics import main_metric
from fsd.glue.tasks import find_task
from fsd.report.figures import SHUFFLED, dot_panels, metric_of
from fsd.report.names import LABELS, LARGE_TASKS, NAMES, SMALL_TASKS
from fsd.report.notes import mixed_teachers, other_encoder
from fsd.report.runs import CHANCE, DIAGONALS, of
from fsd.report.score_tables import percent
from fsd.report.statistics import summary
from fsd.report.style import Drawing, marker_style
from fsd.report.table import Line, Table, Value
from fsd.report.variants import changes, main_settings

BASE = "A method's name alone stands for the settings that the others differ least from; their rows tell what differs."


def settings_of(reproduction):
    """(task, method, label, runs, analyses) of each setting of the methods that were trained with several, on each task.

    The :func:`fsd.report.variants.main_settings` come first, with the method's name alone as label. The others' labels tell
    the flags that differ.
    """
    students, found = reproduction.of_all_settings, []
    counts = students.groupby(["task", "method"])["flags"].nunique()
    for method in LABELS:
        for task in SMALL_TASKS + LARGE_TASKS:
            if counts.get((task, method), 0) < 2:
                continue
            runs, analyses = of(students, task, method), of(reproduction.analyses, task, method)
            base = main_settings(runs["flags"])
            for flags in sorted(runs["flags"].unique(), key=lambda flags: changes(base, flags)):
                label = ", ".join([LABELS[method], *changes(base, flags)])
                found.append((task, method, label, runs[runs["flags"] == flags], analyses[analyses["flags"] == flags]))
    return found


def plain_names(settings):
    """["KD stands for alpha 0.5 on RTE."]: the values of a method's plain name where its other rows have other ones."""
    found = {}
    for task, method, _, runs, _ in settings:
        found.setdefault((task, method), []).append(runs["flags"].iloc[0])
    values = {}
    for (task, method), (base, *others) in found.items():
        told = sorted({change for other in others for change in changes(other, base)})
        values.setdefault((LABELS[method], ", ".join(told)), []).append(task)
    return [f"{label} stands for {told} on {', '.join(tasks)}." for (label, told), tasks in values.items()]


def tasks_of(settings):
    """The tasks of what :func:`settings_of` returned, in the paper's order."""
    return [task for task in SMALL_TASKS + LARGE_TASKS if any(task == of_setting[0] for of_setting in settings)]


def settings_table(reproduction):
    """Scores and CKA of each setting; None if no method was trained with several."""
    settings = settings_of(reproduction)
    if not settings:
        return None
    tasks, lines = tasks_of(settings), {}
    columns = [f"{task} {name}" for task in tasks for name in (main_metric(find_task(task)), "CKA", "CKA by chance")]
    for task, _, label, runs, analyses in settings:
        line = lines.setdefault(label, {})
        line[columns[3 * tasks.index(task)]] = percent(runs["score"])
        for place, name in enumerate(("mean_diagonal", CHANCE), start=1):
            mean, sd, count = summary(100 * analyses[name])
            line[columns[3 * tasks.index(task) + place]] = Value(mean, sd, count)
    shown = reproduction.of_all_settings
    shown = shown[shown["task"].isin(tasks)]
    notes = [NAMES, BASE, *plain_names(settings),
             "CKA: mean diagonal of the CKA map between teacher and student. By chance: that of unrelated features of the same "
             "effective dimensions.",
             *mixed_teachers(shown), *other_encoder(shown)]
    caption = "Settings: scores on dev and CKA, in percent, mean ± standard deviation (number of runs)"
    return Table("settings", caption, columns, [Line(label, "ours", values) for label, values in lines.items()], notes)


def settings_figure(reproduction):
    """The scores and the CKA of each setting's runs as points; None if no method was trained with several."""
    settings = settings_of(reproduction)
    if not settings:
        return None
    rows = {label: marker_style(method) for _, method, label, _, _ in settings}
    panels = {task: (f"{task}: {metric_of(task)}", f"{task}: CKA with the teacher") for task in tasks_of(settings)}
    points = {}
    for task, _, label, runs, analyses in settings:
        scores, ckas = panels[task]
        points[scores, label] = (100 * runs["score"].dropna()).tolist(), []
        points[ckas, label] = [(100 * analyses[name].dropna()).tolist() for name in DIAGONALS]
    figure = dot_panels([name for pair in panels.values() for name in pair], rows, points, "percent", columns=2)
    figure.legend(handles=[Line2D([], [], **SHUFFLED)], loc="outside upper center", handletextpad=0.2)
    best = {task: max((setting for setting in settings if setting[0] == task), key=lambda setting: setting[3]["score"].mean())[2]
            for task in panels}
    told = ", ".join(f"{task} {label}" for task, label in best.items())
    return Drawing(
        "settings", "One method with several settings",
        f"Scores on dev, and the mean diagonal of the CKA map. Small marks are runs, large ones their means; whiskers: standard "
        f"deviation. {BASE} {NAMES} Axes differ between panels.",
        f"Scores and CKA on {', '.join(panels)} of {', '.join(rows)}. Highest mean score: {told}.", figure,
    )
