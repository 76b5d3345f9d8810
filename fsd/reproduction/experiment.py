"""Experiment files: which tasks, methods, seeds and settings one of the paper's tables is made of."""

import re
import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from fsd.glue.tasks import TASKS, find_task
from fsd.reproduction.programs import PROGRAMS, flag_names
from fsd.system.errors import InputError

REFERENCE = re.compile(r"([\w-]+)\.(\w+)")  # "FSD_I.beta": the value that another method's search chose
KEYS = {"tasks", "methods", "seeds", "settings", "teacher", "memory", "stages", "variants"}
STAGE_KEYS = {"method", "grid", "points", "keep", "tasks"}


@dataclass(frozen=True)
class Stage:
    """One step of the search: settings of a method to try on every task.

    Attributes:
        method: name of the method.
        grid: task, or "" for all others → (flag → list of values). Every combination is tried.
        points: list of settings (flag → value). Each is tried with every combination of the grid.
        keep: flags whose chosen values all later stages and all methods take over.
    """

    method: str
    grid: dict
    points: tuple
    keep: tuple

    def candidates(self, task):
        """The settings to try, as dictionaries with references in them."""
        grid = self.grid.get(task, self.grid[""])
        values = [[value for entry in entries for value in expanded(entry)] for entries in grid.values()]
        return [point | dict(zip(grid, combination, strict=True)) for point in self.points for combination in product(*values)]

    @property
    def varied(self):
        """The flags that this stage chooses."""
        return {flag for grid in self.grid.values() for flag in grid} | {flag for point in self.points for flag in point}

    @property
    def references(self):
        """The (method, flag) pairs whose chosen values this stage needs."""
        entries = [entry for grid in self.grid.values() for values in grid.values() for entry in values]
        entries += [value for point in self.points for value in point.values()]
        texts = [entry["of"] if isinstance(entry, dict) else entry for entry in entries]
        return {tuple(text.split(".")) for text in texts if isinstance(text, str)}


@dataclass(frozen=True)
class Experiment:
    """An experiment file.

    Attributes:
        settings, teacher, memory: task, or "" for all → flags (name → value), for every run, the teacher and its memory.
        variants: settings that each final run is made with, one after the other, as the batch sizes of Table 5.
    """

    tasks: tuple
    methods: tuple
    seeds: tuple
    settings: dict
    teacher: dict
    memory: dict
    stages: tuple
    variants: tuple = ({},)

    def needed_stages(self, methods):
        """The stages that these methods' settings depend on, in order."""
        needed = set()
        for number in reversed(range(len(self.stages))):
            stage = self.stages[number]
            later = [self.stages[other] for other in needed]
            wanted = stage.method in methods or stage.keep or any(stage.method == name for s in later for name, _ in s.references)
            if wanted or any(stage.method == other.method for other in later):
                needed.add(number)
        return tuple(self.stages[number] for number in sorted(needed))


def of_task(settings, task):
    """The flags for a task: those for all tasks, replaced by its own."""
    return settings[""] | settings.get(task, {})


def expanded(entry):
    """The values that one entry of a grid stands for: itself, or (reference, factor) pairs for a finer grid."""
    return [(entry["of"], factor) for factor in entry["times"]] if isinstance(entry, dict) else [entry]


def read_experiment(path):
    """Read and check an experiment file.

    Raises:
        InputError: the file cannot be read, or something in it is unknown, empty or contradictory.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot read it as TOML: {getattr(error, 'strerror', None) or error}") from error
    try:
        return checked(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def checked(content):
    """The :class:`Experiment` of a parsed file."""
    refuse_unknown(content, KEYS, "the file")
    tasks = tuple(find_task(name).name for name in listed(content, "tasks", str))
    methods = listed(content, "methods", str)
    for method in methods:
        check_method(method)
    seeds = listed(content, "seeds", int)
    student_flags = set().union(*(flag_names(method) for method in PROGRAMS))
    settings = flags_by_task(content, "settings", student_flags)
    teacher = flags_by_task(content, "teacher", flag_names("teacher"))
    memory = flags_by_task(content, "memory", flag_names("memory"))
    stages = []
    for number, table in enumerate(content.get("stages", ()), 1):
        stages.append(read_stage(table, f"stage {number}"))
        check_references(stages, f"stage {number}")
    variants = tuple(flags_by_task({"variants": table}, "variants", student_flags)[""] for table in content.get("variants", [{}]))
    return Experiment(tasks, methods, seeds, settings, teacher, memory, tuple(stages), variants)


def read_stage(table, where):
    """The :class:`Stage` of a ``[[stages]]`` table."""
    refuse_unknown(table, STAGE_KEYS, where)
    if "method" not in table:
        raise InputError(f"{where} has no method")
    method = table["method"]
    check_method(method)
    flags = flag_names(method)
    grid = {"": table.get("grid", {})}
    for task, own in table.get("tasks", {}).items():
        refuse_unknown(own, {"grid"}, f"{where}, tasks.{task}")
        grid[find_task(task).name] = table.get("grid", {}) | own.get("grid", {})
    for values_of in grid.values():
        refuse_unknown(values_of, flags, f"{where}, grid")
        for flag, values in values_of.items():
            if not isinstance(values, list) or not values:
                raise InputError(f"{where}: the grid of {flag} is empty or not a list; give at least one value")
            for value in values:
                check_value(value, f"{where}, {flag}")
    points = table.get("points", [{}])
    if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
        raise InputError(f"{where}: points is not a list of settings")
    for point in points:
        refuse_unknown(point, flags, f"{where}, points")
        for flag, value in point.items():
            check_value(value, f"{where}, {flag}")
    if not any(grid.values()) and points == [{}]:
        raise InputError(f"{where} has nothing to try: give it a grid or points")
    stage = Stage(method, grid, tuple(points), tuple(table.get("keep", ())))
    if missing := [flag for flag in stage.keep if flag not in stage.varied]:
        raise InputError(f"{where} keeps {missing[0]}, which it does not choose")
    return stage


def check_references(stages, where):
    """Refuse a stage that refers to a value which no stage before it chooses."""
    *earlier, stage = stages
    for method, flag in stage.references:
        if not any(method == other.method and flag in other.varied for other in earlier):
            raise InputError(f"{where} refers to {method}.{flag}, which no earlier stage chooses")


def check_value(value, where):
    """Refuse a value that is no number, switch, reference or finer grid."""
    if isinstance(value, dict):
        refuse_unknown(value, {"of", "times"}, where)
        times = value.get("times")
        numbers = isinstance(times, list) and times and all(is_number(factor) for factor in times)
        if not (isinstance(value.get("of"), str) and REFERENCE.fullmatch(value["of"]) and numbers):
            raise InputError(f'{where}: a finer grid is written {{of = "METHOD.flag", times = [0.5, 2]}}')
    elif isinstance(value, str):
        if not REFERENCE.fullmatch(value):
            raise InputError(f'{where}: {value!r} is neither a number nor a reference such as "FSD_I.beta"')
    elif not (is_number(value) or isinstance(value, bool)):
        raise InputError(f"{where}: {value!r} is not a number")


def is_number(value):
    """Whether a value of the file is a number; switches are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_method(method):
    """Refuse a name that is no method's."""
    if method not in PROGRAMS:
        raise InputError(f"unknown method {method!r}; the methods are {', '.join(PROGRAMS)}")


def flags_by_task(content, key, known):
    """A table of flags, with tables for single tasks in it: task, or "" → flags."""
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise InputError(f"{key} is not a table")
    names = {task.name for task in TASKS}
    flags = {"": {name: value for name, value in table.items() if name not in names}}
    flags |= {name: value for name, value in table.items() if name in names}
    for task, own in flags.items():
        where = f"{key}.{task}" if task else key
        if not isinstance(own, dict):
            raise InputError(f"{where} is not a table")
        refuse_unknown(own, known, where)
        for name, value in own.items():
            if not (is_number(value) or isinstance(value, bool)):
                raise InputError(f"{where}: {name} is {value!r}, neither a number nor true or false")
    return flags


def listed(content, key, kind):
    """A list of the file that must not be empty, as a tuple."""
    values = content.get(key)
    right = isinstance(values, list) and values and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not right:
        raise InputError(f"{key} is missing, empty or not a list of {'names' if kind is str else 'whole numbers'}")
    if len(set(values)) < len(values):
        raise InputError(f"{key} names something twice")
    return tuple(values)


def refuse_unknown(table, known, where):
    """Refuse a key that is not known."""
    if not isinstance(table, dict):
        raise InputError(f"{where} is not a table")
    if unknown := [key for key in table if key not in known]:
        raise InputError(f"{where}: unknown key {unknown[0]!r}")
