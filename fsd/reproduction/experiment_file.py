"""Reading experiment files; whatever is wrong in one is told before anything runs."""

import difflib
import re
import tomllib
from math import prod
from pathlib import Path

from fsd.glue.tasks import TASKS, plain_name
from fsd.reproduction.experiment import Experiment, Stage, expanded, reference_of
from fsd.reproduction.programs import PROGRAMS, flag_names, refusal, takes_a_name
from fsd.system.errors import InputError

REFERENCE = re.compile(r"([\w-]+)\.(\w+)")  # "FSD_I.beta": the value that another method's search chose
KEYS = {"tasks", "methods", "seeds", "settings", "teacher", "memory", "stages", "variants"}
STAGE_KEYS = {"method", "grid", "points", "keep", "tasks"}
OF_STUDENTS = ("mask_padding", "max_seq_length")  # a memory and the students that learn from it share these
MOST_SETTINGS = 10_000  # of a stage; more would never be trained


def read_experiment(path):
    """Read and check an experiment file.

    Raises:
        InputError: the file cannot be read, or something in it is unknown, empty or contradictory.
    """
    try:
        return checked(read_toml(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_toml(path):
    """The content of a TOML file; InputError if it cannot be read."""
    if Path(path).exists() and not Path(path).is_file():  # reading a FIFO would wait forever
        raise InputError("not a regular file")
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read it as TOML: {getattr(error, 'strerror', None) or error}") from error


def checked(content):
    """The :class:`Experiment` of a parsed file."""
    refuse_unknown(content, KEYS, "the file")
    tasks = tuple(task_named(name, "tasks") for name in listed(content, "tasks", str))
    methods = listed(content, "methods", str)
    for method in methods:
        check_method(method, "methods")
    seeds = listed(content, "seeds", int)
    if len(set(tasks)) < len(tasks):
        raise InputError("tasks names something twice")
    if not all(0 <= seed < 2**63 for seed in seeds):
        raise InputError("seeds must be at least 0 and below 2^63")
    possible, stages = {}, []
    for number, table in enumerate(tables(content, "stages", []), 1):
        stages.append(read_stage(table, f"stage {number}", tasks))
        check_values(stages, possible, f"stage {number}")
    trained = dict.fromkeys([*methods, *(stage.method for stage in stages)])
    settings = flags_by_task(content, "settings", trained, tasks)
    teacher, memory = (flags_by_task(content, name, [name], tasks) for name in ("teacher", "memory"))
    variants = tables(content, "variants", [{}])
    if not variants:
        raise InputError("variants is empty; leave it out, or give at least one")
    variants = tuple(flags_by_task({"variants": table}, "variants", methods, ())[""] for table in variants)
    if any(own in variants[:number] for number, own in enumerate(variants)):
        raise InputError("variants has the same settings twice")
    return Experiment(tasks, methods, seeds, settings, teacher, memory, tuple(stages), variants)


def read_stage(table, where, tasks):
    """The :class:`Stage` of one table of ``stages``."""
    refuse_unknown(table, STAGE_KEYS, where)
    if "method" not in table:
        raise InputError(f"{where} has no method")
    method = table["method"]
    check_method(method, where)
    shared, of_tasks, points = table.get("grid", {}), table.get("tasks", {}), table.get("points", [{}])
    refuse_unknown(shared, flag_names(method), f"{where}, grid")
    grid = {"": shared}
    refuse_unknown(of_tasks, of_tasks, f"{where}, tasks")
    for name, own in of_tasks.items():
        task = task_named(name, f"{where}, tasks", tasks)
        if task in grid:
            raise InputError(f"{where}, tasks names {task} twice")
        refuse_unknown(own, {"grid"}, f"{where}, tasks.{name}")
        refuse_unknown(own.get("grid", {}), flag_names(method), f"{where}, tasks.{name}.grid")
        grid[task] = shared | own.get("grid", {})
    for flag, values in (pair for of_task in grid.values() for pair in of_task.items()):
        if not isinstance(values, list) or not values:
            raise InputError(f"{where}: the grid of {flag} is empty or not a list; give at least one value")
    if not isinstance(points, list) or not points:
        raise InputError(f"{where}: points is empty or not a list of settings")
    for point in points:
        refuse_unknown(point, flag_names(method), f"{where}, points")
        if twice := [flag for of_task in grid.values() for flag in of_task if flag in point]:
            raise InputError(f"{where}: {twice[0]} is both in the grid and in points; leave one out")
    if not any(grid.values()) and not any(points):
        raise InputError(f"{where} has nothing to try: give it a grid or points")
    keep = listed(table, "keep", str, where) if "keep" in table else ()
    stage = Stage(method, grid, tuple(points), keep)
    if missing := [flag for flag in keep if flag not in stage.chosen_flags]:
        raise InputError(f"{where} keeps {missing[0]}, which it does not choose, or not in all of its settings")
    return stage


def check_values(stages, possible, where):
    """Refuse a stage with a value that no program takes, or a reference that no stage before it chooses.

    ``possible`` maps (method, flag) to the values that the stages so far may choose; the stage adds its own.
    """
    *earlier, stage = stages
    for flag, entry in stage.entries:
        if not (isinstance(entry, str) and takes_a_name(stage.method, flag)):
            check_form(entry, f"{where}, {flag}")
        reference = reference_of(entry)
        if reference and not any(s.method == reference[0] and reference[1] in s.chosen_flags for s in earlier):
            raise InputError(f"{where} refers to {'.'.join(reference)}, which no earlier stage chooses in all of its settings")
    for task, grid in stage.grid.items():
        sizes = [sum(len(expanded(entry)) for entry in values) for values in grid.values()]
        of_points = sum(prod(len(expanded(entry)) for entry in point.values()) for point in stage.points)
        if (size := prod(sizes) * of_points) > MOST_SETTINGS:
            raise InputError(f"{where}: {size} settings to try{task and ' on '}{task}; a stage may have {MOST_SETTINGS}")
    found = {}
    for flag, entry in stage.entries:
        reference = reference_of(entry)
        factors = entry["times"] if isinstance(entry, dict) else [1]
        if isinstance(entry, dict) and not all(map(is_number, possible[reference])):
            raise InputError(f"{where}: {flag}: {'.'.join(reference)} is not a number, so it has no multiples")
        values = {value * factor for value in possible[reference] for factor in factors} if reference else {entry}
        reasons = [refusal(stage.method, flag, value) for value in values]
        if all(reasons):  # values of a finer grid that are out of range are left out; some must stay
            raise InputError(f"{where}: {flag}: {reasons[0]}")
        found.setdefault((stage.method, flag), set()).update(
            value for value, reason in zip(values, reasons, strict=True) if not reason
        )
    for key, values in found.items():
        possible[key] = possible.get(key, set()) | values


def check_form(entry, where):
    """Refuse an entry of a stage that is no number, switch, reference or finer grid."""
    if isinstance(entry, dict):
        refuse_unknown(entry, {"of", "times"}, where)
        times = entry.get("times")
        numbers = isinstance(times, list) and times and all(is_number(factor) for factor in times)
        if not (isinstance(entry.get("of"), str) and REFERENCE.fullmatch(entry["of"]) and numbers):
            raise InputError(f'{where}: a finer grid is written {{of = "METHOD.flag", times = [0.5, 2]}}')
    elif isinstance(entry, str):
        if not REFERENCE.fullmatch(entry):
            raise InputError(f'{where}: {entry!r} is neither a number nor a reference such as "FSD_I.beta"')
    elif not isinstance(entry, int | float):
        raise InputError(f"{where}: {entry!r} is not a number")


def is_number(value):
    """Whether a value of the file is a number; switches are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_method(method, where):
    """Refuse a name that is no method's."""
    if not isinstance(method, str) or method not in PROGRAMS:
        raise InputError(f"{where}: unknown method {method!r}; the methods are {', '.join(PROGRAMS)}")


def task_named(name, where, tasks=None):
    """The name of a task as GLUE writes it; it must be one of ``tasks`` if they are given."""
    found = [task.name for task in TASKS if plain_name(task.name) == plain_name(name)]
    if not found:
        raise InputError(f"{where}: {name!r} is not a GLUE task; the tasks are {', '.join(task.name for task in TASKS)}")
    if tasks is not None and found[0] not in tasks:
        raise InputError(f"{where}: {name} is not among the tasks of this file; add it there, or leave it out here")
    return found[0]


def flags_by_task(content, key, methods, tasks):
    """A table of these methods' flags, with tables for single tasks in it: task, or "" → flags."""
    table = content.get(key, {})
    refuse_unknown(table, table, key)
    flags = {"": {name: value for name, value in table.items() if not isinstance(value, dict)}}
    for name, own in table.items():
        if isinstance(own, dict):
            task = task_named(name, key, tasks)
            if task in flags:
                raise InputError(f"{key} names {task} twice")
            flags[task] = own
    known = set().union(*(flag_names(method) for method in methods))
    for task, own in flags.items():
        where = f"{key}.{task}" if task else key
        refuse_unknown(own, known, where)
        if shared := [name for name in OF_STUDENTS if key == "memory" and name in own]:
            raise InputError(f"{where}: {shared[0]}: a memory takes it from its students; set it in settings")
        check_flags(own, methods, where)
    return flags


def check_flags(flags, methods, where):
    """Refuse a flag whose value some method that has the flag does not take."""
    for name, value in flags.items():
        for method in methods:
            if name in flag_names(method) and (reason := refusal(method, name, value)):
                raise InputError(f"{where}: {name}: {reason}")


def listed(content, key, kind, where=""):
    """A list of the file that must not be empty, as a tuple."""
    values, where = content.get(key), f"{where}{where and ': '}{key}"
    right = isinstance(values, list) and values and all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not right:
        raise InputError(f"{where} is missing, empty or not a list of {'names' if kind is str else 'whole numbers'}")
    if len(set(values)) < len(values):
        raise InputError(f"{where} names something twice")
    return tuple(values)


def tables(content, key, default):
    """A list of tables of the file."""
    values = content.get(key, default)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise InputError(f"{key} is not a list of tables; each begins with [[{key}]]")
    return values


def refuse_unknown(table, known, where):
    """Refuse what is no table, and a key that is not known."""
    if not isinstance(table, dict):
        raise InputError(f"{where} is not a table")
    if unknown := [key for key in table if key not in known]:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"the keys are {', '.join(sorted(known))}"
        raise InputError(f"{where}: unknown key {unknown[0]!r}; {remedy}")
