"""Tables 6 to 8 of the paper: CKA between teacher and student, relation differences, parameters and time."""

import math

from scipy.stats import rankdata

from fsd.method.relations import RELATIONS
from fsd.report.names import LABELS, METHODS, NAMES, STUDENTS, WITH_RELATIONS, map_name
from fsd.report.notes import DOUBTS, OURS_ALONE, notes_on_runs, other_batch_sizes, other_encoder
from fsd.report.runs import CHANCE, of
from fsd.report.statistics import summary
from fsd.report.table import Line, Table, Value
from fsd.system.errors import InputError
from fsd.system.files import read_json

SPEED = ("parameters (millions)", "ms a training step", "training speed", "inference speed")


def cka_table(reproduction, published):
    """Table 6: the mean diagonal of the CKA maps of teacher and student, and two chance levels of it."""
    printed = published["table_6_mean_diagonal_of_CKA_heat_maps"]
    tasks = printed["columns"][:-1]
    analyses = reproduction.main_analyses
    used = analyses[analyses["method"].isin(METHODS)]
    lines = []
    for method in METHODS:
        label = map_name(method, dash="-")
        if label not in printed and method not in set(used["method"]):
            continue
        for source, column in (("ours", "mean_diagonal"), ("ours, chance", CHANCE), ("ours, shuffled", "shuffled_mean_diagonal")):
            values = {task: Value(*summary(of(used, task, method)[column])) for task in tasks}
            mean, _, count = summary([value.mean for value in values.values() if value.mean is not None])
            lines.append(Line(label, source, values | {"average": Value(mean, runs=count)}, digits=3))
        if label in printed:
            theirs = {column: Value(number) for column, number in zip(printed["columns"], printed[label], strict=True)}
            lines.append(Line(label, "published", theirs, digits=3))
    notes = [f"Published: {published['source']}.", f"T is the teacher. {NAMES}", OURS_ALONE,
             "Chance: what unrelated features of the same effective dimensions have. Shuffled: the same features, with the "
             "student's examples in another order.",
             "Our average is over the tasks that have runs; their number stands in brackets."]
    for split, of_split in used[~used["split"].isin(("", "test"))].groupby("split"):
        notes.append(f"Ours: on {split} instead of test: {', '.join(sorted(of_split['task'].unique()))}.")
    sizes = used["analysis_batch_size"].dropna().unique()
    if set(sizes) - {32}:
        notes.append(f"Ours: mini-batches of {', '.join(f'{size:.0f}' for size in sorted(sizes))} examples.")
    caption = "Table 6: mean diagonal of the CKA maps, mean ± standard deviation (number of runs)"
    notes += _notes(used, reproduction, tasks) + DOUBTS["table6"]
    return Table("table6", caption, printed["columns"], lines, notes)


def ranks_table(reproduction, published):
    """Table 7: rank of each of four methods by its relation difference to the teacher, mean of the four differences."""
    printed = published["table_7_mean_rank_of_relation_differences"]
    tasks = printed["columns"][:-1]
    analyses = reproduction.main_analyses
    used = analyses[analyses["method"].isin(WITH_RELATIONS)].dropna(subset=list(RELATIONS))
    ranks = {task: _ranks(used[used["task"] == task]) for task in tasks}
    lines = []
    for method in WITH_RELATIONS:
        label = LABELS[method]
        ours = {task: Value(*summary([of_seed[method] for of_seed in ranks[task]])) for task in tasks}
        mean, _, count = summary([value.mean for value in ours.values() if value.mean is not None])
        theirs = {column: Value(number) for column, number in zip(printed["columns"], printed[label], strict=True)}
        lines += [Line(label, "ours", ours | {"average": Value(mean, runs=count)}), Line(label, "published", theirs)]
    notes = [f"Published: {published['source']}.", NAMES,
             "Ours: ranked within each seed that all four methods have, 1 the smallest difference, equal ones sharing the mean "
             "rank; then mean ± standard deviation over seeds (number of seeds). The average is over the tasks in brackets.",
             *_notes(used, reproduction, tasks), *DOUBTS["table7"]]
    caption = "Table 7: mean rank of the four relation differences at the end of training"
    return Table("table7", caption, printed["columns"], lines, notes)


def _ranks(rows):
    """[method → mean rank over the four differences], one entry a seed at which all four methods have an analysis."""
    found = []
    for _, of_seed in rows.groupby("seed"):
        values = of_seed.groupby("method")[list(RELATIONS)].mean()
        if len(values) == len(WITH_RELATIONS):
            found.append(dict(zip(values.index, rankdata(values, axis=0).mean(axis=1), strict=True)))
    return found


def _notes(analyses, reproduction, tasks):
    students = reproduction.students
    return (notes_on_runs(analyses, reproduction, tasks) + other_batch_sizes(analyses)
            + other_encoder(students[students["task"].isin(analyses["task"])]))


def cost_table(reproduction, published, benchmark=None):
    """Table 8: parameters of the students' rows, and time beside VKD's.

    ``benchmark``: what :func:`read_benchmark` returned; None leaves our times empty.
    """
    printed = published["table_8_parameters_and_time"]
    students = reproduction.students
    by_size = {}
    for row in benchmark or []:
        by_size.setdefault(row["size"], {})[row["method"]] = row
    lines, notes = [], [f"Published: {published['source']}.", NAMES, "Speeds are relative to VKD; above 1 is faster."]
    for method in STUDENTS:
        label = LABELS[method]
        parameters, _, count = summary(students.loc[students["method"] == method, "parameters"])
        if count:
            lines.append(Line(label, "ours, runs", {SPEED[0]: Value(parameters / 1e6)}))
        for size, measured in by_size.items():
            if method in measured:
                values = {SPEED[1]: Value(measured[method]["ms"])}
                if "KD" in measured:
                    values[SPEED[2]] = Value(measured["KD"]["ratio"] / measured[method]["ratio"])
                if measured[method]["inference"]:
                    values[SPEED[3]] = Value(1 / measured[method]["inference"])
                lines.append(Line(label, f"ours, {size}", values))
        if label in printed:
            numbers = (float(printed[label]["parameters"].rstrip("M")), None, printed[label]["training"],
                       printed[label]["inference"])
            lines.append(Line(label, "published", {name: Value(number) for name, number in zip(SPEED, numbers, strict=True)}))
    notes += ["Ours: parameters are those of the saved student, mean over tasks. FSD_G and FSD_ILG also train a student memory "
              "of centroids × length × width values.",
              "Ours: times are scripts/benchmark.py's, without speed options. Inference is that of the same network for every "
              "method, so what differs from 1 is noise."]
    notes += other_encoder(students) + DOUBTS["table8"]
    return Table("table8", "Table 8: parameters and time", list(SPEED), lines, notes)


def positive(value):
    """A value as a number above 0; a ValueError for others."""
    if not 0 < (number := float(value)) < math.inf:
        raise ValueError(f"{value!r} is not above 0")
    return number


def read_benchmark(path):
    """The rows of scripts/benchmark.py's table of methods that use no speed option, each with its ``inference``.

    ``inference`` is the time of the student's evaluation relative to that of KD's student; None where it was not measured.

    Raises:
        InputError: the file cannot be read, or holds no such table.
    """
    content = read_json(path)
    try:
        inference = {(row["size"], row["method"]): positive(row["ratio"]) for row in content["tables"].get("inference", [])}
        return [{"size": str(row["size"]), "method": str(row["method"]), "ms": positive(row["ms"]),
                 "ratio": positive(row["ratio"]), "inference": inference.get((row["size"], row["method"]))}
                for row in content["tables"]["methods"] if row["options"] == ""]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"--benchmark {path} has no table of methods; name a file of scripts/benchmark.py --tables methods"
                         ) from error
