"""Experiments: which tasks, methods, seeds and settings one of the paper's tables is made of."""

from dataclasses import dataclass
from itertools import product


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
        settings = []
        for point in self.points:
            entries = {flag: [entry] for flag, entry in point.items()} | self.grid.get(task, self.grid[""])
            values = [[value for entry in of_flag for value in expanded(entry)] for of_flag in entries.values()]
            settings += [dict(zip(entries, combination, strict=True)) for combination in product(*values)]
        return settings

    @property
    def chosen_flags(self):
        """The flags that the chosen setting has for sure, on every task."""
        return set(self.grid[""]) | set.intersection(*(set(point) for point in self.points))

    @property
    def entries(self):
        """All (flag, entry) pairs of the grids and points."""
        of_grids = [(flag, entry) for grid in self.grid.values() for flag, values in grid.items() for entry in values]
        return of_grids + [pair for point in self.points for pair in point.items()]

    @property
    def references(self):
        """The (method, flag) pairs whose chosen values this stage needs."""
        return {reference for _, entry in self.entries if (reference := reference_of(entry))}


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


def reference_of(entry):
    """The (method, flag) that an entry of a stage refers to, or None."""
    text = entry["of"] if isinstance(entry, dict) else entry
    return tuple(text.rsplit(".", 1)) if isinstance(text, str) and "." in text else None
