"""What an experiment still has to do: worked out anew from the rows that are there, so that it goes on after any stop."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fsd.models.hub import WEIGHTS
from fsd.records.results import read_results, row_flags
from fsd.reproduction.cells import Cell, Workplace, score_of, startable
from fsd.reproduction.experiment import reference_of
from fsd.reproduction.programs import WITH_MEMORY, flag_names, is_same_run, refusal
from fsd.reproduction.sources import ELSEWHERE
from fsd.system.errors import InputError

FINAL = "final runs"
TRAINED_WITH = {"teacher": "--model_name_or_path", "memory": "--teacher_memory_path"}  # column of a row → flag


@dataclass
class Progress:
    """Where an experiment stands.

    Attributes:
        ready: the cells that can start now, the most urgent first.
        counts: stage → Counter of "all", "done", "failed", in the order of the stages.
        to_come: (stage, task, method, steps setting) of every student that is not done; the setting is None where the
            search has not chosen it yet.
        chosen: task → method → flag → value.
        stuck: "TASK/METHOD" → why the search chose nothing for it and never will.
        leftovers: the search's students that are done and still have their weights.
        seen: names of the splits, teachers and memories that are counted already.
    """

    ready: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    to_come: list = field(default_factory=list)
    chosen: dict = field(default_factory=dict)
    stuck: dict = field(default_factory=dict)
    leftovers: list = field(default_factory=list)
    seen: set = field(default_factory=set)

    def count(self, stage, state, number=1):
        """Count cells of a stage."""
        self.counts.setdefault(stage, Counter())[state] += number


class Plan:
    """The cells of an experiment and their order.

    Args:
        workplace: :class:`fsd.reproduction.cells.Workplace`.
        tasks, methods, seeds: those to run; at most the experiment's own.
        given: task → method → flag → value; replaces the search if it is not None.
        selected_on: "held-out" or "dev": what chose the settings.

    Raises:
        InputError: a method lacks a setting that it cannot do without, or ``given`` lacks the method.
    """

    def __init__(self, workplace: Workplace, tasks, methods, seeds, given=None, selected_on=None):
        self.workplace, self.tasks, self.methods, self.seeds, self.given = workplace, tasks, methods, seeds, given
        self.selected_on = selected_on or ("dev" if workplace.select_on_dev else "held-out")
        self.stages = () if given is not None else workplace.experiment.needed_stages(methods)
        for task in tasks:
            for method in methods:
                self._check_settings(task, method)

    def look(self, failed=()):
        """The :class:`Progress`, from the files that are there; ``failed`` are names of cells that are not tried again."""
        self.rows = {}
        for place in ("search", "final"):
            path = self.workplace.results(place)
            for row in read_results(path):
                row["flags"] = row_flags(row)
                self.rows.setdefault((path, row["task"], row["method"], row["seed"]), []).append(row)
        progress = Progress()
        for task in self.tasks:
            self._look_at_task(task, progress, failed)
        stages = ["held-out data", "teachers (search)", "memories (search)", *[f"search of {s.method}" for s in self.stages],
                  "teachers (final)", "memories (final)", FINAL, "teachers (analysis)"]
        order = {stage: number for number, stage in enumerate(dict.fromkeys(stages))}
        progress.counts = dict(sorted(progress.counts.items(), key=lambda item: order[item[0]]))
        progress.ready = [startable(cell) if cell.results is None or self.row(cell) is None else cell for cell in progress.ready]
        progress.ready.sort(key=lambda cell: (order[cell.stage], cell.seed if cell.stage == FINAL else 0))
        return progress

    def row(self, cell):
        """The newest results row of a cell, or None. Its ``flags`` are a dictionary.

        Raises:
            InputError: it is a student's whose teacher or memory has other settings; the names of their folders tell these.
        """
        method = "teacher" if cell.kind == "teacher" else cell.method
        rows = self.rows.get((cell.results, cell.task, cell.method, str(cell.seed)), ())
        role = "teacher" if cell.kind == "teacher" else "student"
        same = [row for row in rows if row["role"] == role and is_same_run(method, row["flags"], cell.flags)]
        for column, flag in TRAINED_WITH.items():
            if same and cell.kind == "student" and same[-1][column]:
                found, own = Path(same[-1][column]).name, cell.option(flag).name
                if found != own:
                    run = f"{cell.method} on {cell.task} at seed {cell.seed}"
                    raise InputError(f"{cell.results}: {run} was trained with {found}, and this experiment's settings give "
                                     f"{own}; {ELSEWHERE}")
        return same[-1] if same else None

    def is_done(self, cell):
        """Whether a student's row stands, and its analysis too where that can still be made."""
        if self.row(cell) is None:
            return False
        analysed = len(cell.commands) == 1 or self.workplace.analysis_file(cell.name).exists()
        return analysed or not (cell.folder / WEIGHTS).exists()

    def _check_settings(self, task, method):
        """Refuse settings that the method's program would refuse, as those of PKD without its weight."""
        if self.given is not None and method not in self.given.get(task, {}):
            raise InputError(f"--chosen has no values for {method} on {task}; search them, or leave it out with --methods")
        values = self.example(method) if self.given is None else self.given[task][method]
        for variant in self.workplace.experiment.variants:
            flags = self.workplace.student("final", FINAL, task, method, 0, values, variant).flags
            if flags.get("student_memory_init") == "centroids" and flags["max_train_samples"] > 0:
                raise InputError(f"{method} on {task}: student_memory_init = centroids needs the examples that the memory was "
                                 "built on, and max_train_samples draws others for each seed; leave one of the two out")

    def example(self, method):
        """Values that pass for the flags that the search will choose for a method; only their presence matters."""
        values = {}
        for stage in self.stages:
            flags = stage.chosen_flags if stage.method == method else stage.keep
            for flag, entry in stage.entries if flags else ():
                if flag in flags and flag in flag_names(method):
                    plain = entry if isinstance(entry, int | float) else 1
                    values |= {} if refusal(method, flag, plain) else {flag: plain}
        return values

    def _look_at_task(self, task, progress, failed):
        waiting = []
        if self.given is None:
            values, undecided = self._search(task, progress, failed, waiting)
        else:
            values, undecided = self.given[task], set()
        progress.chosen[task] = values
        if waiting:
            self._require(task, self.workplace.search_place, waiting, progress, failed)
        finals = self._finals(task, values, undecided, progress, failed)
        if finals or undecided:
            self._require(task, "final", finals, progress, failed)
        analysis, over = self.workplace.teacher_analysis(task), not finals and not undecided
        if self.workplace.is_built(self.workplace.teacher("final", task)):
            self._add(analysis, progress, failed)
        self._count([*self._needs("final", task, self.methods), analysis], over, progress)
        if self.stages:
            self._count(self._needs(self.workplace.search_place, task, [s.method for s in self.stages]), not undecided, progress)

    def _needs(self, place, task, methods):
        """What the students of a place need in all: the split, the teacher, the memories."""
        needs = [self.workplace.teacher(place, task)]
        if place == "search":
            needs.insert(0, self.workplace.split(task))
        for method in dict.fromkeys(method for method in methods if method in WITH_MEMORY):
            for variant in self.workplace.experiment.variants if place == "final" else [{}]:
                student = self.workplace.student(place, FINAL, task, method, 0, self.example(method), variant)
                needs.append(self.workplace.memory(place, task, student.flags))
        return needs

    @staticmethod
    def _count(cells, over, progress):
        """Count cells that nothing waits for now, so that the totals stay: as done if all that needs them is."""
        for cell in cells:
            if cell.name not in progress.seen:
                progress.seen.add(cell.name)
                progress.count(cell.stage, "all")
                progress.count(cell.stage, "done", int(over))

    def _search(self, task, progress, failed, waiting):
        """Collect the search's cells that are not done; returns what is chosen, and the methods that are not decided yet."""
        kept, chosen, undecided, keepers = {}, {}, set(), set()
        for stage in self.stages:
            name = f"search of {stage.method}"
            depends = {stage.method, *(method for method, _ in stage.references), *keepers}
            if stage.keep:
                keepers.add(stage.method)
            if depends & undecided:
                undecided.add(stage.method)
                count = len(stage.candidates(task))
                progress.count(name, "all", count)
                progress.to_come += [(name, task, stage.method, None)] * count
                continue
            settings = self._resolved(stage, task, kept, chosen)
            place = self.workplace.search_place
            cells = [self.workplace.student(place, name, task, stage.method, self._search_seed, own) for own in settings]
            done = [(cell, own) for cell, own in zip(cells, settings, strict=True) if self.is_done(cell)]
            finished = {cell.name for cell, _ in done}
            lost = [cell for cell in cells if cell.name in failed and cell.name not in finished]
            rest = [cell for cell in cells if cell.name not in failed and cell.name not in finished]
            for state, number in (("all", len(cells)), ("done", len(done)), ("failed", len(lost))):
                progress.count(name, state, number)
            progress.leftovers += [cell for cell, _ in done if (cell.folder / WEIGHTS).exists()]
            waiting += rest
            scored = [(score, own) for cell, own in done if (score := score_of(self.row(cell), cell.results)) > -math.inf]
            if rest or not scored:
                undecided.add(stage.method)
                if not rest:
                    progress.stuck[f"{task}/{stage.method}"] = (
                        f"none of its {len(cells)} settings has a score, so it and what depends on it cannot go on"
                    )
                continue
            chosen[stage.method] = best = max(scored, key=lambda pair: pair[0])[1]
            kept |= {flag: best[flag] for flag in stage.keep}
        without_choice = {method for method in self.methods if method in undecided or keepers & undecided}
        decided = [method for method in self.methods if method not in without_choice]
        return {method: self._taken(method, kept | chosen.get(method, {})) for method in decided}, without_choice

    def _variants(self, method):
        """The experiment's variants as far as a method has their flags; none is there twice."""
        of_method = [self._taken(method, variant) for variant in self.workplace.experiment.variants]
        return [own for number, own in enumerate(of_method) if own not in of_method[:number]]

    @staticmethod
    def _taken(method, values):
        return {flag: value for flag, value in values.items() if flag in flag_names(method)}

    @property
    def _search_seed(self):
        return self.workplace.experiment.seeds[0]

    def _resolved(self, stage, task, kept, chosen):
        """The settings of a stage's candidates, with the values of the references in them.

        None is there twice. Those of a finer grid that leave a flag's range are left out.
        """
        base = self._taken(stage.method, kept | chosen.get(stage.method, {}))

        def value(entry):
            entry, factor = entry if isinstance(entry, tuple) else (entry, 1)
            if reference_of(entry) is None:
                return entry
            method, flag = reference_of(entry)
            found = chosen[method][flag]
            return found if factor == 1 else found * factor

        settings = {}
        for own in stage.candidates(task):
            own = {flag: value(entry) for flag, entry in own.items()}
            if not any(refusal(stage.method, flag, given) for flag, given in own.items()):
                settings.setdefault(tuple(sorted((base | own).items())), base | own)
        return list(settings.values())

    def _finals(self, task, values, undecided, progress, failed):
        """Collect and return the final cells that are not done."""
        rest = []
        for method in self.methods:
            for variant in self._variants(method):
                if method in undecided:
                    progress.count(FINAL, "all", len(self.seeds))
                    progress.to_come += [(FINAL, task, method, None)] * len(self.seeds)
                    continue
                for seed in self.seeds:
                    cell = self.workplace.student("final", FINAL, task, method, seed, values[method], variant)
                    progress.count(FINAL, "all")
                    if self.is_done(cell):
                        progress.count(FINAL, "done")
                    elif cell.name in failed:
                        progress.count(FINAL, "failed")
                    else:
                        rest.append(cell)
        return rest

    def _require(self, task, place, cells, progress, failed):
        """Add cells to what is ready, or what they need first: the data, the teacher, the memory."""
        progress.to_come += [(cell.stage, task, cell.method, cell.steps_setting) for cell in cells]
        if place == "search":
            if not self._add(self.workplace.split(task), progress, failed):
                return
        if not self._add(self.workplace.teacher(place, task), progress, failed):
            return
        for cell in cells:
            if cell.method not in WITH_MEMORY or self._add(self.workplace.memory(place, task, cell.flags), progress, failed):
                progress.ready.append(cell)

    def _add(self, cell: Cell, progress, failed):
        """Make sure of something that others need; returns whether it is there."""
        there = self.workplace.is_built(cell) and (cell.kind != "teacher" or self.row(cell) is not None)
        if cell.name not in progress.seen:
            progress.seen.add(cell.name)
            progress.count(cell.stage, "all")
            progress.count(cell.stage, "done", int(there))
            progress.count(cell.stage, "failed", int(cell.name in failed and not there))
            if not there and cell.name not in failed:
                progress.ready.append(cell)
        return there
