"""The figures that compare runs: restoration rates, mean diagonals, curves of relation differences, and scores.

Each function draws one figure from a :class:`~fsd.report.runs.Reproduction`, or returns None where it has no data
for it. The CKA maps are in :mod:`fsd.report.heat_maps`.
"""

import numpy as np
from matplotlib.lines import Line2D

from fsd.glue.metrics import main_metric
from fsd.glue.tasks import find_task
from fsd.method.relations import RELATIONS
from fsd.report.names import LABELS, METHODS, NAMES, WITH_RELATIONS
from fsd.report.runs import RATES
from fsd.report.statistics import summary
from fsd.report.style import COLORS, INK, SOFT, Drawing, marker_style, new_figure

PLACES = {"inter": "between examples", "intra": "within an example"}
RESTORED = ("KD", "PKD", "FSD_ILG")
SHUFFLED = {
    "linestyle": "", "marker": "|", "markersize": 8, "markeredgewidth": 1.6, "color": SOFT, "label": "chance: examples shuffled",
}
SPREAD = "Means over seeds; whiskers: standard deviation."


def mean_and_deviation(values):
    """Mean and sample standard deviation; the deviation of a single value is 0."""
    mean, deviation, _ = summary(values)
    return mean, deviation or 0.0


def named(methods):
    """The methods' names in a sentence."""
    return ", ".join(LABELS[method] for method in methods)


def legend(figure, methods, line=False):
    """The methods' names with their marks, above the panels."""
    handles = [Line2D([], [], linestyle="-" if line else "", label=LABELS[method], **marker_style(method)) for method in methods]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handletextpad=0.4, columnspacing=1.4)


def restoration(reproduction):
    """Figure 3: how well students restore their teacher's predictions: precision, recall and F1, as bars."""
    rates = {
        (task, method): found for task in reproduction.tasks("restoration") for method in RESTORED
        if (found := reproduction.parts("restoration", task, method))
    }
    if not rates:
        return None
    tasks = list(dict.fromkeys(task for task, _ in rates))
    methods = [method for method in RESTORED if any(method == known for _, known in rates)]
    figure = new_figure(4.6)
    panels = figure.subplots(len(RATES), 1, sharex=True, sharey=True)
    lowest = 100.0
    for panel, rate in zip(panels, RATES, strict=True):
        for place, method in enumerate(methods):
            at = [number for number, task in enumerate(tasks) if (task, method) in rates]
            bars = [mean_and_deviation([100 * run[rate] for run in rates[tasks[number], method]]) for number in at]
            means, deviations = np.transpose(bars)
            x = np.array(at) + 0.8 * ((place + 0.5) / len(methods) - 0.5)
            panel.bar(x, means, 0.8 / len(methods), color=COLORS[method], alpha=0.75, edgecolor="white", linewidth=0.5)
            mark = marker_style(method) | {"markersize": 3}
            panel.errorbar(x, means, deviations, linestyle="", ecolor=INK, elinewidth=0.9, capsize=2.5, **mark)
            lowest = min(lowest, *(means - deviations))
        panel.set_ylabel({"f1": "F1"}.get(rate, rate) + " [%]")
        panel.grid(axis="y")
        panel.tick_params(axis="x", length=0)
    bottom = max(0, 10 * np.floor(lowest / 10 - 0.5))
    panels[0].set(ylim=(bottom, 101), xlim=(-0.55, len(tasks) - 0.45))
    panels[-1].set_xticks(range(len(tasks)), tasks)
    legend(figure, methods)
    cut = f" The axes start at {bottom:.0f} %, not at 0." if bottom else ""
    best = [f"{task} {LABELS[max(methods, key=lambda m: rate_of(rates, task, m))]}" for task in tasks]
    return Drawing(
        "figure3", "Figure 3: restoration rate",
        f"The student's predictions on dev with the teacher's predictions as the truth. {SPREAD}{cut} {NAMES}",
        f"Bars of precision, recall and F1 for {named(methods)} on {', '.join(tasks)}. Highest F1: {', '.join(best)}.", figure,
    )


def rate_of(rates, task, method):
    """Mean F1 of a task and method; −1 where there is none."""
    return np.mean([run["f1"] for run in rates[task, method]]) if (task, method) in rates else -1


def diagonals(reproduction):
    """Figure 5: the mean diagonal of each method's CKA map, and its chance level, on a line for each task."""
    tasks = reproduction.tasks("cka")
    found = {(task, method): maps for task in tasks for method in METHODS if (maps := reproduction.parts("cka", task, method))}
    if not found:
        return None
    points = {
        key: [[run[name] for run in maps] for name in ("mean_diagonal", "shuffled_mean_diagonal")] for key, maps in found.items()
    }
    methods = [method for method in METHODS if any(method == name for _, name in points)]
    lines = tasks
    complete = [task for task in tasks if all((task, method) in points for method in methods)]
    if len(complete) > 1:
        average = f"mean of {len(complete)} tasks"
        for method in methods:
            points[average, method] = [[np.mean([np.mean(points[task, method][kind]) for task in complete])] for kind in (0, 1)]
        lines = [average, *tasks]
    figure = dot_panels(lines, method_rows(methods), points, "mean diagonal of the CKA map")
    figure.legend(handles=[Line2D([], [], **SHUFFLED)], loc="outside upper center", handletextpad=0.2)
    first = lines[0]
    placed = [method for method in methods if (first, method) in points]
    order = sorted(placed, key=lambda method: np.mean(points[first, method][0]))
    return Drawing(
        "figure5", "Figure 5: mean diagonal of the CKA maps",
        f"Mean diagonal of each method's map, and its chance level (bar): the same with the student's examples shuffled within "
        f"each batch. CKA of few examples with many features is near 1 even for unrelated features, so only the distance "
        f"to chance counts. {SPREAD} {NAMES} Axes differ between panels.",
        f"Mean diagonals of {named(methods)} on {', '.join(tasks)}. From low to high, {first}: {named(order)}.",
        figure,
    )


def method_rows(methods):
    """The rows of :func:`dot_panels` for these methods."""
    return {method: marker_style(method) for method in methods}


def dot_panels(names, rows, points, label, columns=3):
    """A panel for each name, a row for each of ``rows``, and points at ``points[name, row]`` = (values, chance levels) of runs.

    ``rows``: {method or other label: how its points look}. The mean of the values is a large mark with a whisker, above small
    ones for each of several runs.
    """
    columns = min(columns, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(0.6 + lines * (0.38 + 0.16 * len(rows)))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for panel in panels.flat[len(names):]:
        panel.remove()
    for panel, name in zip(panels.flat, names, strict=False):
        for height, (row, style) in enumerate(rows.items()):
            values, chance = points.get((name, row), ([], []))
            if chance:
                panel.plot(np.mean(chance), height, **SHUFFLED)
            if len(values) > 1:
                below = [height + 0.3] * len(values)
                panel.plot(values, below, linestyle="", **style | {"markersize": 2.6, "alpha": 0.8, "markeredgewidth": 0.2})
            if values:
                mean, deviation = mean_and_deviation(values)
                panel.errorbar(mean, height, xerr=deviation, ecolor=INK, elinewidth=0.8, capsize=1.6, **style)
        panel.set_title(name)
        panel.grid(axis="both")
        panel.margins(x=0.08)
        panel.locator_params(axis="x", nbins=4)
        panel.tick_params(axis="y", length=0)
    panels[0, 0].set_yticks(range(len(rows)), [LABELS.get(row, row) for row in rows])
    panels[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    figure.supxlabel(label, fontsize=8)
    return figure


def scores(reproduction):
    """The main dev metric of each run as a point."""
    tasks = reproduction.tasks()
    found = {(task, method): reproduction.scores(task, method) for task in tasks for method in METHODS}
    points = {key: ([100 * score for score in values], []) for key, values in found.items() if values}
    if not points:
        return None
    methods = [method for method in METHODS if any(method == name for _, name in points)]
    titles = {task: f"{task}: {metric_of(task)}" for task in tasks}
    titled = {(titles[task], method): value for (task, method), value in points.items()}
    figure = dot_panels(list(titles.values()), method_rows(methods), titled, "score on dev [%]")
    for panel, task in zip(figure.axes, tasks, strict=True):
        if (task, "teacher") in points:
            panel.axvline(np.mean(points[task, "teacher"][0]), color=COLORS["teacher"], linewidth=0.8, linestyle="--", zorder=0.5)
    students = {task: [m for m in methods if m != "teacher" and (task, m) in points] for task in tasks}
    best = {task: max(known, key=lambda m: np.mean(points[task, m][0])) for task, known in students.items() if known}
    told = ", ".join(f"{task} {LABELS[method]}" for task, method in best.items()) or "none"
    return Drawing(
        "scores", "Scores on the development sets",
        f"Small marks are runs, large ones their means. {SPREAD} Dashed: the teacher. {NAMES} Axes differ between panels.",
        f"Scores of {named(methods)} on {', '.join(tasks)}. Highest mean of a student: {told}.", figure,
    )


def metric_of(task):
    """The name of a task's main metric."""
    return main_metric(find_task(task)).removeprefix("mnli/")


def curves(reproduction, name, tasks, where):
    """Figures 6 and 8: the four relation differences over the training steps. ``where`` names the tasks in the title."""
    lines = {
        (task, method): line for task in reproduction.tasks("curves") if task in tasks for method in WITH_RELATIONS
        if (runs := reproduction.parts("curves", task, method)) and (line := mean_curves(runs))[0]
    }
    if not lines:
        return None
    tasks = list(dict.fromkeys(task for task, _ in lines))
    methods = [method for method in WITH_RELATIONS if any(method == known for _, known in lines)]
    figure = new_figure(0.6 + 1.35 * len(tasks))
    panels = figure.subplots(len(tasks), len(RELATIONS), squeeze=False)
    for row, task in zip(panels, tasks, strict=True):
        for panel, relation in zip(row, RELATIONS, strict=True):
            for method in methods:
                if (task, method) in lines:
                    step, values = lines[task, method]
                    marked = np.unique(np.linspace(0, len(step) - 1, 4, dtype=int))
                    panel.plot(step, values[relation], **marker_style(method) | {"markersize": 3.5}, markevery=list(marked))
            panel.grid()
            panel.locator_params(nbins=3)
            panel.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
            panel.set_ylim(0, 1.05 * panel.get_ylim()[1])
        row[0].set_ylabel(task, fontweight="bold", fontsize=9)
    for panel, relation in zip(panels[0], RELATIONS, strict=True):
        place, measure = relation.split("_")
        panel.set_title(f"{PLACES[place]}\n{measure.replace('euclid', 'Euclid')}", fontsize=8)
    figure.supxlabel("training step", fontsize=8)
    legend(figure, methods, line=True)
    return Drawing(
        name, f"Figure {name.removeprefix('figure')}: relation differences, {where}",
        f"Mean difference between the relations in the teacher and in the student (Eq. 12 and 13); lower is nearer to it. "
        f"Means over seeds. {NAMES}",
        f"Curves of four relation differences over the training steps for {named(methods)} on {', '.join(tasks)}.", figure,
    )


def mean_curves(runs):
    """(steps that all runs logged, {relation: mean value at each of them})."""
    steps = sorted(set.intersection(*(set(run["step"]) for run in runs)))
    logged = [dict(zip(run["step"], zip(*(run[name] for name in RELATIONS), strict=True), strict=True)) for run in runs]
    values = np.mean([[run[step] for step in steps] for run in logged], axis=0)
    return steps, dict(zip(RELATIONS, values.T, strict=True)) if steps else {}
