"""What an experiment still has to do: worked out anew from the rows that are there, so that it goes on after any stop."""

from collections import Counter
from dataclasses import dataclass, field

from fsd.records.results import read_results
from fsd.reproduction.cells import Cell, Workplace, is_built, main_metric_of, row_flags
from fsd.reproduction.programs import WITH_MEMORY, is_same_run
from fsd.system.errors import InputError

FINAL = "final runs"


@dataclass
class Progress:
    """Where an experiment stands.

    Attributes:
        ready: the cells that can start now, the most urgent first.
        counts: stage → Counter of "all", "done", "failed", in the order of the stages.
        to_come: (stage, task, method, steps setting) of every student that is not done; the setting is None where the
            search has not chosen it yet.
        chosen: task → method → flag → value.
        seen: names of the splits, teachers and memories that are counted already.
    """

    ready: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    to_come: list = field(default_factory=list)
    chosen: dict = field(default_factory=dict)
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
    """

    def __init__(self, workplace: Workplace, tasks, methods, seeds, given=None):
        self.workplace, self.tasks, self.methods, self.seeds, self.given = workplace, tasks, methods, seeds, given
        self.stages = () if given is not None else workplace.experiment.needed_stages(methods)

    def look(self, failed=()):
        """The :class:`Progress`, from the files that are there; ``failed`` are names of cells that are not tried again."""
        self.rows = {}
        for place in ("search", "final"):
            path = self.workplace.results(place)
            for row in read_results(path):
                self.rows.setdefault((path, row["task"], row["method"], row["seed"]), []).append(row)
        progress = Progress()
        for task in self.tasks:
            self._look_at_task(task, progress, failed)
        stages = ["held-out data", "teachers (search)", "memories (search)", *[f"search of {s.method}" for s in self.stages],
                  "teachers (final)", "memories (final)", FINAL, "teachers (analysis)"]
        order = {stage: number for number, stage in enumerate(dict.fromkeys(stages))}
        progress.counts = dict(sorted(progress.counts.items(), key=lambda item: order[item[0]]))
        progress.ready.sort(key=lambda cell: (order[cell.stage], cell.seed if cell.stage == FINAL else 0))
        return progress

    def row(self, cell):
        """The newest results row of a cell, or None."""
        method = "teacher" if cell.kind == "teacher" else cell.method
        rows = self.rows.get((cell.results, cell.task, cell.method, str(cell.seed)), ())
        role = "teacher" if cell.kind == "teacher" else "student"
        same = [row for row in rows if row["role"] == role and is_same_run(method, row_flags(row), cell.flags)]
        return same[-1] if same else None

    def is_done(self, cell):
        """Whether a student's row stands, and its analysis too where that can still be made."""
        if self.row(cell) is None:
            return False
        analysed = len(cell.commands) == 1 or self.workplace.analysis_file(cell.name).exists()
        return analysed or not (cell.folder / "model.safetensors").exists()

    def _look_at_task(self, task, progress, failed):
        waiting = []
        if self.given is None:
            values, undecided = self._search(task, progress, failed, waiting)
        else:
            values, undecided = self.given.get(task, {}), set()
        progress.chosen[task] = values
        if waiting:
            self._require(task, self.workplace.search_place, waiting, progress, failed)
        finals = self._finals(task, values, undecided, progress, failed)
        if finals or undecided:
            self._require(task, "final", finals, progress, failed)
        elif is_built(self.workplace.teacher("final", task)):
            self._add(self.workplace.teacher_analysis(task), progress, failed)

    def _search(self, task, progress, failed, waiting):
        """Collect the search's cells that are not done; returns what is chosen, and the methods that are not decided yet."""
        kept, chosen, undecided, keepers = {}, {}, set(), set()
        for stage in self.stages:
            name, candidates = f"search of {stage.method}", stage.candidates(task)
            depends = {stage.method, *(method for method, _ in stage.references), *keepers}
            if stage.keep:
                keepers.add(stage.method)
            if depends & undecided:
                undecided.add(stage.method)
                progress.count(name, "all", len(candidates))
                progress.to_come += [(name, task, stage.method, None)] * len(candidates)
                continue
            settings = self._resolved(stage, candidates, kept, chosen)
            place = self.workplace.search_place
            cells = [self.workplace.student(place, name, task, stage.method, self._search_seed, own) for own in settings]
            done = [(cell, own) for cell, own in zip(cells, settings, strict=True) if self.is_done(cell)]
            lost = [cell for cell in cells if cell.name in failed]
            rest = [cell for cell in cells if cell.name not in failed and not self.is_done(cell)]
            for state, number in (("all", len(cells)), ("done", len(done)), ("failed", len(lost))):
                progress.count(name, state, number)
            waiting += rest
            if rest or not done:
                undecided.add(stage.method)
                continue
            best = max(done, key=lambda pair: float(self.row(pair[0])[main_metric_of(task)] or "-inf"))[1]
            chosen[stage.method] = best
            kept |= {flag: best[flag] for flag in stage.keep}
        undecided = {method for method in self.methods if method in undecided or keepers & undecided}
        return {method: kept | chosen.get(method, {}) for method in self.methods if method not in undecided}, undecided

    @property
    def _search_seed(self):
        return self.workplace.experiment.seeds[0]

    def _resolved(self, stage, candidates, kept, chosen):
        """The settings of a stage's candidates, with the values of the references in them; none twice."""
        base = kept | chosen.get(stage.method, {})

        def value(entry):
            if isinstance(entry, tuple):
                return value(entry[0]) * entry[1]
            if isinstance(entry, dict):
                return value(entry["of"]) * entry["times"][0]
            if not isinstance(entry, str):
                return entry
            method, flag = entry.split(".")
            return chosen[method][flag]

        settings = [base | {flag: value(entry) for flag, entry in own.items()} for own in candidates]
        return [own for number, own in enumerate(settings) if own not in settings[:number]]

    def _finals(self, task, values, undecided, progress, failed):
        """Collect and return the final cells that are not done."""
        rest = []
        for method in self.methods:
            for variant in self.workplace.experiment.variants:
                if method in undecided:
                    progress.count(FINAL, "all", len(self.seeds))
                    progress.to_come += [(FINAL, task, method, None)] * len(self.seeds)
                    continue
                if self.given is not None and method not in values:
                    raise InputError(f"--chosen has no values for {method} on {task}")
                for seed in self.seeds:
                    cell = self.workplace.student("final", FINAL, task, method, seed, values[method], variant)
                    progress.count(FINAL, "all")
                    if self.is_done(cell):
                        progress.count(FINAL, "done")
                    elif cell.name in failed:
                        progress.count(FINAL, "failed")
                    else:
                        rest.append((cell, variant))
        return rest

    def _require(self, task, place, cells, progress, failed):
        """Add cells to what is ready, or what they need first: the data, the teacher, the memory."""
        pairs = [cell if isinstance(cell, tuple) else (cell, {}) for cell in cells]
        progress.to_come += [(cell.stage, task, cell.method, cell.steps_setting) for cell, _ in pairs]
        if place == "search":
            if not self._add(self.workplace.split(task), progress, failed):
                return
        if not self._add(self.workplace.teacher(place, task), progress, failed):
            return
        for cell, variant in pairs:
            if cell.method not in WITH_MEMORY or self._add(self.workplace.memory(place, task, variant), progress, failed):
                progress.ready.append(cell)

    def _add(self, cell: Cell, progress, failed):
        """Make sure of something that others need; returns whether it is there."""
        there = is_built(cell) and (cell.kind != "teacher" or self.row(cell) is not None)
        if cell.name not in progress.seen:
            progress.seen.add(cell.name)
            progress.count(cell.stage, "all")
            progress.count(cell.stage, "done", int(there))
            progress.count(cell.stage, "failed", int(cell.name in failed and not there))
            if not there and cell.name not in failed:
                progress.ready.append(cell)
        return there
