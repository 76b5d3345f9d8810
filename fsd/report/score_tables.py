"""Tables 2 to 5 of the paper: scores, the parts of FSD, and their spread over batch sizes."""

from fsd.glue.tasks import METRIC_NAMES
from fsd.report.comparison import OURS, common_seeds, compare_tasks, welch_of_published, welch_p_values
from fsd.report.names import LABELS, LARGE_TASKS, METHODS, NAMES, PARTS, SMALL_TASKS, STUDENTS
from fsd.report.notes import DOUBTS, OURS_ALONE, mixed_settings, mixed_teachers, notes_on_students, other_batch_sizes
from fsd.report.runs import of
from fsd.report.statistics import DRAWS, ROUNDING, sign_flip_test, summary
from fsd.report.table import Line, Table, Value
from fsd.report.variants import with_main_settings

LEVEL = 0.05
TESTS = [
    "p, Welch: one-tailed t-test of FSD against the metric's best baseline (of VKD, PKD, MiniLM, RKD), unpaired, as the paper "
    "does it. Recomputed: the same from the printed means and deviations of six runs.",
    "p, paired: one-tailed t-test of FSD against the task's best baseline over the seeds that both have. A task's score is the "
    "mean of its metrics.",
    f"p, Holm: p, paired, corrected for all tasks of Tables 2 and 3 that have it. † marks FSD where it is below {LEVEL}.",
]


def score_tables(reproduction, published):
    """Tables 2 and 3: mean scores in percent, in the columns that the paper prints, and tests between methods."""
    scores = published["tables_2_and_3"]["scores"]
    students = reproduction.students
    metrics = [tuple(column.split(" ")) for column in scores]
    comparisons = compare_tasks(students, metrics)
    p_values = welch_p_values(students, metrics)
    tables = []
    for name, tasks in (("table2", SMALL_TASKS), ("table3", LARGE_TASKS)):
        columns = [column for column in scores if column.split(" ")[0] in tasks]
        lines = _score_lines(reproduction.main, columns, scores, comparisons)
        lines += _test_lines(columns, scores, p_values, comparisons)
        notes = [f"Published: {published['source']}.", NAMES, "Bold: the best of our students' means.", OURS_ALONE, *TESTS]
        shown = students[students["task"].isin(tasks)]
        notes += _notes_on_comparisons({t: c for t, c in comparisons.items() if t in tasks}, comparisons)
        notes += notes_on_students(shown, reproduction, tasks) + other_batch_sizes(shown) + DOUBTS[name]
        caption = f"Table {name[-1]}: scores on dev in percent, mean ± standard deviation (number of runs)"
        tables.append(Table(name, caption, columns, lines, notes))
    return tables


def own_tables(reproduction):
    """One table of the scores on tasks of one's own, which the paper does not have; none if there are no such runs."""
    runs = reproduction.own
    if runs.empty:
        return []
    tasks = sorted(set(runs["task"]))
    metrics = [(task, metric) for task in tasks for metric in METRIC_NAMES if runs[runs["task"] == task][metric].notna().any()]
    methods = sorted(set(runs["method"]), key=[*LABELS, *sorted(set(runs["method"]) - set(LABELS))].index)
    lines = [
        Line(LABELS.get(method, method), "ours",
             {f"{task} {metric}": percent(of(runs, task, method)[metric]) for task, metric in metrics})
        for method in methods
    ]
    notes = [NAMES, *mixed_teachers(runs), *mixed_settings(runs)]
    caption = "Tasks of one's own: scores on dev in percent, mean ± standard deviation (number of runs)"
    return [Table("own-tasks", caption, [" ".join(metric) for metric in metrics], lines, notes)]


def percent(values):
    """:class:`Value` of fractions, in percent; its mean is None if there are none."""
    mean, sd, runs = summary(100 * values)
    return Value(mean, sd, runs)


def _score_lines(runs, columns, scores, comparisons):
    """The lines of the teacher and each student: ours, the best student bold, and the published one where the paper has it."""
    lines, cells = [], {}
    for method in METHODS:
        label, cells[method] = LABELS[method], {}
        for column in columns:
            task, metric = column.split(" ")
            cells[method][column] = percent(of(runs, task, method)[metric])
        is_printed = label in scores[columns[0]]
        if is_printed or any(value.mean is not None for value in cells[method].values()):
            lines.append(Line(label, "ours", cells[method]))
        if is_printed:
            lines.append(Line(label, "published", {column: Value(*scores[column][label]) for column in columns}))
    for column in columns:
        ours = [cells[method][column] for method in STUDENTS if cells[method][column].mean is not None]
        best = max((value.mean for value in ours), default=None)
        for value in ours:
            value.bold = best - value.mean <= ROUNDING and len(ours) > 1
        comparison = comparisons.get(column.split(" ")[0])
        corrected = comparison.corrected if comparison else None
        cells["FSD_ILG"][column].dagger = corrected is not None and corrected < LEVEL
    return lines


def _test_lines(columns, scores, p_values, comparisons):
    """The lines of p-values; those of a task stand in the column of each of its metrics."""
    paired, corrected, welch = {}, {}, {}
    for column in columns:
        task, metric = column.split(" ")
        welch[column] = Value(p_values.get((task, metric)))
        if task in comparisons:
            paired[column], corrected[column] = Value(comparisons[task].p), Value(comparisons[task].corrected)
    published = {column: Value(scores[column]["p"]) for column in columns}
    recomputed = {column: Value(welch_of_published(scores[column])[1]) for column in columns}
    return [Line("p, Welch", "ours", welch, digits=3), Line("p, Welch", "published", published, digits=3),
            Line("p, Welch", "published, recomputed", recomputed, digits=3),
            Line("p, paired", "ours", paired, digits=3), Line("p, Holm", "ours", corrected, digits=3)]


def _notes_on_comparisons(of_table, comparisons):
    """Which baselines were compared with, over how many seeds, and the test over all tasks."""
    named = [f"{task} {LABELS[c.baseline]} ({len(c.differences)})" for task, c in of_table.items()]
    notes = [f"Ours: best baselines of the tasks (seeds in common with FSD): {', '.join(named)}."] if named else []
    p, exact, tasks, pairs = sign_flip_test([comparison.differences for comparison in comparisons.values()])
    if p is not None:
        how = "all sign patterns" if exact else f"{DRAWS} random sign patterns"
        notes.append("Ours, all tasks of Tables 2 and 3 at once: FSD against each task's best baseline, one-tailed permutation "
                     "test that flips the signs of the paired differences, each task's divided by their root mean square: "
                     f"p = {p:.3g} (tasks: {tasks}, pairs: {pairs}, {how}). Tasks whose differences are all 0 do not count.")
    return notes


def parts_table(reproduction, published):
    """Table 4: the change in percent from FSD to each single structure and to FSD without the global one."""
    printed = published["table_4_percent_change_from_FSD"]
    students = reproduction.students
    metrics = [tuple(column.split(" ")) for column in published["tables_2_and_3"]["scores"]]
    lines = []
    for method in PARTS:
        ours, theirs = {}, {"average": Value(printed[method]["average"])}
        for at, (task, metric) in enumerate(metrics):
            ours[f"{task} {metric}"] = _change(students, task, metric, method)
            earlier = sum(1 for name, _ in metrics[:at] if name == task)
            theirs[f"{task} {metric}"] = Value(printed[method][task][earlier])
        mean, _, count = summary([value.mean for value in ours.values()])
        ours["average"] = Value(mean, runs=count)
        lines += [Line(method, "ours", ours), Line(method, "published", theirs)]
    shown = students[students["method"].isin((*PARTS, "FSD_ILG"))]
    notes = [f"Published: {published['source']}. It calls FSD_I “w/o LG”, FSD_L “w/o IG”, FSD_G “w/o IL”, FSD_IL “w/o G”.",
             "Ours: over the seeds that both methods have (number of seeds); the average over the metrics that have any (number "
             "of metrics).",
             *notes_on_students(shown, reproduction, SMALL_TASKS + LARGE_TASKS), *other_batch_sizes(shown)]
    caption = "Table 4: change of the mean score from FSD (all three structures), in percent of FSD's score"
    columns = [" ".join(metric) for metric in metrics] + ["average"]
    return Table("table4", caption, columns, lines, notes + DOUBTS["table4"])


def _change(students, task, metric, method):
    """:class:`Value` of the change in percent from FSD's mean to the method's, over the seeds that both have."""
    pairs = common_seeds(students[students["task"] == task], metric, method, OURS)
    part, whole = pairs.mean()
    return Value(100 * (part - whole) / whole, runs=len(pairs)) if whole > 0 else Value(None)  # else there is no percent


def spread_table(reproduction, published):
    """Table 5: the standard deviation over all runs at batch sizes 8, 16 and 32 of FSD_L and FSD_G."""
    printed = published["table_5_standard_deviation_of_18_runs"]
    rows = with_main_settings(reproduction.runs)
    rows = rows[rows["method"].isin(("FSD_L", "FSD_G")) & rows["batch_size"].isin((8, 16, 32))]
    metrics = (("MRPC", "f1"), ("MRPC", "acc"), ("SST-2", "acc"))
    lines, notes = [], [f"Published: {published['source']}; 18 runs each, six at each batch size."]
    for method in ("FSD_L", "FSD_G"):
        ours, theirs = {}, {}
        for task, metric in metrics:
            of_method = of(rows, task, method)
            _, sd, runs = summary(100 * of_method[metric])
            ours[f"{task} {metric}"] = Value(sd, runs=runs)
            theirs[f"{task} {metric}"] = Value(printed[method][task][metrics.index((task, metric)) if task == "MRPC" else 0])
            missing = [str(size) for size in (8, 16, 32) if size not in set(of_method["batch_size"])]
            if sd is not None and missing and metric == "acc":
                notes.append(f"Ours: {method} has no runs on {task} at batch size {' and '.join(missing)}.")
        lines += [Line(method, "ours", ours), Line(method, "published", theirs)]
    notes += notes_on_students(rows, reproduction, ("MRPC", "SST-2"))
    caption = "Table 5: standard deviation in percent over the runs at batch sizes 8, 16 and 32 (number of runs)"
    return Table("table5", caption, [" ".join(metric) for metric in metrics], lines, notes)
