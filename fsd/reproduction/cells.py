"""The cells of an experiment: one run of one program each, with its command line and its place on disk."""

import json
import math
import os
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from fsd.glue.metrics import check_score, main_metric
from fsd.glue.tasks import find_task
from fsd.memory.student_memory import STUDENT_FILE
from fsd.memory.teacher_memory import TEACHER_FILE
from fsd.models.hub import WEIGHTS, ModelSource
from fsd.records.output_folder import RECORD_FILE
from fsd.reproduction.experiment import of_task
from fsd.reproduction.experiment_file import OF_STUDENTS
from fsd.reproduction.programs import WITH_MEMORY, defaults, flag_names, identity, program_of, words
from fsd.system.errors import InputError
from fsd.system.files import read_json
from fsd.system.hashes import json_hash, model_hash, tensor_hash

PROJECT = Path(__file__).resolve().parents[2]
TEACHER_SEED = 42
STUDENT_FILES = (WEIGHTS, STUDENT_FILE)


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        kind: "split", "teacher", "memory", "student" or "analysis".
        stage: where it is counted, for example "search of KD" or "final runs".
        name: its place below the output folder.
        commands: command lines, one after the other; each is a tuple of a script and its words.
        flags: what identifies its row in the results file; None for cells without a row.
        folder: where it writes.
        results: the results file with its row, or None.
    """

    kind: str
    stage: str
    task: str
    method: str
    seed: int
    name: str
    commands: tuple
    folder: Path
    flags: dict | None = field(default=None, compare=False)
    results: Path | None = None

    def option(self, flag):
        """The path that the first command gives with a flag."""
        return Path(self.commands[0][self.commands[0].index(flag) + 1])

    @property
    def steps_setting(self):
        """(epochs, steps, examples an update, most examples) that the cell trains with, for estimates of its time."""
        examples = self.flags["per_gpu_train_batch_size"] * self.flags["gradient_accumulation_steps"]
        return self.flags["num_train_epochs"], self.flags["max_steps"], examples, self.flags["max_train_samples"]


class Workplace:
    """The folders of a reproduction, and how its cells' commands are written.

    Args:
        experiment: :class:`fsd.reproduction.experiment.Experiment`.
        data_dir, base: GLUE's folder, and the pretrained encoder of teachers and students.
        output_dir: where everything is written. Paths become absolute, so that commands run from any folder.
        select_on_dev: choose settings on dev, not on training data that were held out.
        cuda_graphs: train with ``--cuda_graphs``.
    """

    def __init__(self, experiment, data_dir, base, output_dir, select_on_dev, cuda_graphs=False):
        self.experiment, self.select_on_dev, self.cuda_graphs = experiment, select_on_dev, cuda_graphs
        self.data_dir, self.output_dir = os.path.abspath(data_dir), Path(os.path.abspath(output_dir))
        self.base = os.path.abspath(base) if os.path.exists(base) else base  # or a name of the hub

    @property
    def search_place(self):
        """The folder below the output folder that the search's teachers and memories lie in."""
        return "final" if self.select_on_dev else "search"

    def results(self, place):
        """The results file of the search or of the final runs. Scores on other data have a file of their own."""
        search = "search-dev.csv" if self.select_on_dev else "search.csv"
        return self.output_dir / ("results.csv" if place == "final" else search)

    def data(self, place):
        """The data folder of the search or of the final runs."""
        return self.data_dir if place == "final" else str(self.output_dir / "held-out")

    def common(self, place, task, folder):
        """Words that all programs take. What was begun with the same settings and models goes on, all else starts anew."""
        return ("--task_name", task, "--data_dir", self.data(place), "--output_dir", str(folder),
                "--run_file", str(self.output_dir / "runs"), "--resume", "--overwrite_output_dir")

    def flags(self, method, task, *settings):
        """The flags of a run: the experiment's for all runs, then each of ``settings``, as far as the method takes them."""
        merged = of_task(self.experiment.settings, task)
        for more in settings:
            merged = merged | more
        return {name: value for name, value in merged.items() if name in flag_names(method)}

    def speed_flags(self, flags):
        """``--cuda_graphs``, where it is wanted and works beside a run's flags."""
        works = flags.get("similarity") != "procrustes" and not flags.get("fp16") and not flags.get("no_cuda")
        return ("--cuda_graphs",) if self.cuda_graphs and works and flags.get("gradient_accumulation_steps", 1) == 1 else ()

    def split(self, task):
        """The cell that holds out training data for the search."""
        folder = self.output_dir / "held-out"
        command = ("scripts/hold_out.py", "--task_name", task, "--data_dir", self.data_dir, "--output_dir", str(folder))
        return Cell("split", "held-out data", task, "", TEACHER_SEED, f"held-out/{task}", (command,), folder / task)

    @cache  # noqa: B019 (there is one workplace, as long as the program runs)
    def teacher(self, place, task):
        """The cell of a task's teacher. Its folder tells its settings, as experiments may share the output folder."""
        flags = self.flags("teacher", task, of_task(self.experiment.teacher, task))
        given = (*words(flags), "--seed", str(TEACHER_SEED))
        try:
            identified = identity("teacher", task, given)
        except InputError as error:
            raise InputError(f"the teacher of {task}: {error}") from error
        name = f"{place}/{task}/teacher-{_short_hash('teacher', identified)}"
        folder = self.output_dir / name
        command = ("scripts/finetune_teacher.py", "--model_name_or_path", self.base, "--do_train", "--do_eval",
                   "--results_file", str(self.results(place)), *self.common(place, task, folder), *words(flags),
                   "--seed", str(TEACHER_SEED), *self.speed_flags(flags))
        return Cell("teacher", f"teachers ({place})", task, "fine-tuning", TEACHER_SEED, name, (command,), folder, identified,
                    self.results(place))

    def memory(self, place, task, student_flags):
        """The cell of a task's teacher memory, with the padding mode and length of a student."""
        shared = {name: student_flags[name] for name in OF_STUDENTS}
        flags = self.flags("memory", task, of_task(self.experiment.memory, task), shared)
        teacher = self.teacher(place, task)
        name = f"{place}/{task}/memory-{_short_hash('memory', flags | {'teacher': teacher.name})}"
        folder = self.output_dir / name
        command = ("train_memory.py", "--model_name_or_path", str(teacher.folder), "--do_train",
                   *self.common(place, task, folder), *words(flags), "--seed", str(TEACHER_SEED))
        return Cell("memory", f"memories ({place})", task, "memory", TEACHER_SEED, name, (command,), folder)

    def student(self, place, stage, task, method, seed, values, variant=None):
        """The cell of a student.

        Args:
            place: "final", or that of the search.
            stage: where it is counted.
            values: flag → chosen value.
            variant: the experiment's variant; None in the search, which has no analysis.

        Raises:
            InputError: the method's program does not take these settings.
        """
        flags = self.flags(method, task, values, variant or {}) | program_of(method).flags
        caches = flags.pop("cache_teacher", False)
        given = ["--copy_teacher", *words(flags), "--seed", str(seed)]
        if caches:
            given += ["--cache_teacher", str(self.output_dir / place / task / "cache")]
        try:
            identified = identity(method, task, tuple(given))
        except InputError as error:
            raise InputError(f"{method} on {task}: {error}") from error
        if method in WITH_MEMORY:
            given += ["--teacher_memory_path", str(self.memory(place, task, identified).folder)]
        changed = {**values, **(variant or {})}
        label = "-".join(f"{name}{_short(value)}" for name, value in sorted(changed.items()) if name in flags)[:100]
        results = self.results("search" if variant is None else "final")
        root = results.stem if variant is None else "final"
        name = f"{root}/{task}/{method}/{label or 'plain'}-{_short_hash(method, identified)}/seed-{seed}"
        own = self.output_dir / name
        command = (
            program_of(method).script, "--model_name_or_path", str(self.teacher(place, task).folder),
            "--model_name_or_path_for_copy", self.base, "--do_train", "--do_eval", "--skip_teacher_eval",
            "--results_file", str(results), *self.common(place, task, own), *given,
            *([] if variant is None else ["--log_relations"]), *self.speed_flags(flags),
        )
        commands = (command,) if variant is None else (command, self.analysis(task, own, name, flags))
        return Cell("student", stage, task, method, seed, name, commands, own, identified, results)

    def analysis(self, task, folder, name, flags):
        """The command that measures what a model of the final runs took over from its teacher."""
        given = {key: flags[key] for key in ("max_seq_length", "do_lower_case", "mask_padding", "no_cuda") if key in flags}
        teacher = self.teacher("final", task).folder
        curves = [] if folder == teacher else ["--curves", str(self.output_dir / "runs")]
        return ("scripts/analyse.py", "--model_name_or_path", str(teacher), "--student_model_name_or_path", str(folder),
                "--task_name", task, "--data_dir", self.data_dir, "--output_file", str(self.analysis_file(name)), *curves,
                *words(given))

    def analysis_file(self, name):
        """Where the analysis of a final cell lies."""
        return self.output_dir / "analysis" / (name.removeprefix("final/").replace("/", "-") + ".json")

    def teacher_analysis(self, task):
        """The cell that compares a teacher with itself, for the heat maps."""
        teacher = self.teacher("final", task)
        name = f"{teacher.name}-analysis"
        command = self.analysis(task, teacher.folder, name, self.flags("FSD_L", task))
        return Cell("analysis", "teachers (analysis)", task, "teacher", TEACHER_SEED, name, (command,), self.analysis_file(name))

    def is_built(self, cell):
        """Whether what a split, teacher, memory or analysis writes is there; for a memory, that of the teacher that is there."""
        if cell.kind == "memory":
            teacher = cell.option("--model_name_or_path")
            made_from, weights = _teacher_of(cell.folder / TEACHER_FILE), teacher / WEIGHTS
            return made_from is not None and weights.is_file() and _has_hash(teacher, made_from, weights.stat().st_mtime_ns)
        files = {"split": "split.json", "teacher": WEIGHTS}
        return (cell.folder / files[cell.kind]).is_file() if cell.kind in files else cell.folder.is_file()


def startable(cell):
    """The cell as it is to start. One that once finished, but whose row or files are gone, must not take itself for done."""
    path = cell.folder / RECORD_FILE
    try:
        finished = cell.kind in ("teacher", "memory", "student") and read_json(path).get("finished")
    except (InputError, AttributeError):  # there is none yet, or the program tells what is wrong with it
        return cell
    first, *rest = cell.commands
    return replace(cell, commands=(tuple(word for word in first if word != "--resume"), *rest)) if finished else cell


def _teacher_of(path):
    """The hash of the teacher that a memory file was built from; None if there is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["memory"])["teacher_hash"]
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None


@cache
def _has_hash(folder, digest, changed_at):
    """Whether a folder's model has this hash. transformers writes some kinds under other names than their parameters have."""
    if tensor_hash(load_file(folder / WEIGHTS)) == digest:
        return True
    from fsd.models.loading import load_pretrained  # imports transformers, which most experiments need not wait for

    try:
        return model_hash(load_pretrained(ModelSource("", str(folder), folder))[0]) == digest
    except InputError:
        return False


def score_of(row, path):
    """The task's main metric in a row of the file ``path``, which settings are chosen by; −∞ where it is missing or not finite.

    Raises:
        InputError: it is no score.
    """
    name = main_metric(find_task(row["task"]))
    where = f"{path}: {row['method']} on {row['task']}, {row['output_dir']}: {name}"
    try:
        score = float(row[name] or "nan")
    except ValueError as error:
        raise InputError(f"{where} is {row[name]!r}, not a number; correct it, or remove the row") from error
    if not math.isfinite(score):
        return -math.inf
    check_score(score, where)
    return score


def _short_hash(method, flags):
    """Eight digits that tell settings apart. Defaults are left out, so that a flag of a later version changes no name."""
    own = defaults(method)
    return json_hash({name: value for name, value in flags.items() if value != own.get(name)})[:8]


def _short(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
