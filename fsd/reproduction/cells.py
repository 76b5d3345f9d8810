"""The cells of an experiment: one run of one program each, with its command line and its place on disk."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from fsd.glue.tasks import find_task
from fsd.reproduction.experiment import of_task
from fsd.reproduction.programs import WITH_MEMORY, flag_names, identity, program_of, words
from fsd.system.hashes import json_hash

PROJECT = Path(__file__).resolve().parents[2]
TEACHER_SEED = 42
STUDENT_FILES = ("model.safetensors", "student_memory.safetensors")


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        kind: "split", "teacher", "memory" or "student".
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

    @property
    def steps_setting(self):
        """(epochs, steps, batch size) that the cell trains with, for estimates of its time."""
        return self.flags["num_train_epochs"], self.flags["max_steps"], self.flags["per_gpu_train_batch_size"]


class Workplace:
    """The folders of a reproduction, and how its cells' commands are written.

    Args:
        experiment: :class:`fsd.reproduction.experiment.Experiment`.
        data_dir, base: GLUE's folder, and the pretrained encoder of teachers and students.
        output_dir: where everything is written.
        select_on_dev: choose settings on dev, not on training data that were held out.
    """

    def __init__(self, experiment, data_dir, base, output_dir, select_on_dev):
        self.experiment, self.data_dir, self.base, self.output_dir = experiment, data_dir, base, Path(output_dir)
        self.select_on_dev = select_on_dev

    @property
    def search_place(self):
        """The folder below the output folder that the search's teachers and memories lie in."""
        return "final" if self.select_on_dev else "search"

    def results(self, place):
        """The results file of the search or of the final runs."""
        return self.output_dir / ("results.csv" if place == "final" else "search.csv")

    def data(self, place):
        """The data folder of the search or of the final runs."""
        return self.data_dir if place == "final" else str(self.output_dir / "held-out")

    def common(self, place, task, folder):
        """Words that all programs take."""
        return ("--task_name", task, "--data_dir", self.data(place), "--output_dir", str(folder),
                "--run_file", str(self.output_dir / "runs"), "--resume")

    def flags(self, method, task, *settings):
        """The flags of a run: the experiment's for all runs, then each of ``settings``, as far as the method takes them."""
        merged = of_task(self.experiment.settings, task)
        for more in settings:
            merged = merged | more
        return {name: value for name, value in merged.items() if name in flag_names(method)}

    def split(self, task):
        """The cell that holds out training data for the search."""
        folder = self.output_dir / "held-out"
        command = ("scripts/hold_out.py", "--task_name", task, "--data_dir", self.data_dir, "--output_dir", str(folder))
        return Cell("split", "held-out data", task, "", TEACHER_SEED, f"held-out/{task}", (command,), folder / task)

    def teacher(self, place, task):
        """The cell of a task's teacher."""
        flags = self.flags("teacher", task, of_task(self.experiment.teacher, task))
        folder = self.output_dir / place / task / "teacher"
        given = (*self.common(place, task, folder), *words(flags), "--seed", str(TEACHER_SEED))
        command = ("scripts/finetune_teacher.py", "--model_name_or_path", self.base, "--do_train", "--do_eval",
                   "--results_file", str(self.results(place)), *given)
        return Cell("teacher", f"teachers ({place})", task, "fine-tuning", TEACHER_SEED, f"{place}/{task}/teacher", (command,),
                    folder, identity("teacher", command[1:]), self.results(place))

    def memory(self, place, task, variant):
        """The cell of a task's teacher memory, with the padding mode and length of a variant."""
        shared = {name: value for name, value in variant.items() if name in ("mask_padding", "max_seq_length")}
        flags = self.flags("memory", task, of_task(self.experiment.memory, task), shared)
        name = "memory" + "".join(f"-{key}{value}" for key, value in sorted(shared.items()))
        folder = self.output_dir / place / task / name
        command = ("train_memory.py", "--model_name_or_path", str(self.output_dir / place / task / "teacher"), "--do_train",
                   *self.common(place, task, folder), *words(flags), "--seed", str(TEACHER_SEED))
        return Cell("memory", f"memories ({place})", task, "memory", TEACHER_SEED, f"{place}/{task}/{name}", (command,), folder)

    def student(self, place, stage, task, method, seed, values, variant=None):
        """The cell of a student.

        Args:
            place: "final", or that of the search.
            stage: where it is counted.
            values: flag → chosen value.
            variant: the experiment's variant; None in the search, which has no analysis.
        """
        flags = self.flags(method, task, values, variant or {}) | program_of(method).flags
        caches = flags.pop("cache_teacher", False)
        folder = self.output_dir / place / task
        given = ["--copy_teacher", *words(flags), "--seed", str(seed)]
        if caches:
            given += ["--cache_teacher", str(folder / "cache")]
        if method in WITH_MEMORY:
            given += ["--teacher_memory_path", str(self.memory(place, task, variant or {}).folder)]
        identified = identity(method, ["--task_name", task, "--data_dir", "", "--output_dir", "", *given])
        changed = {**values, **(variant or {})}
        label = "-".join(f"{name}{_short(value)}" for name, value in sorted(changed.items()) if name in flags)[:100]
        root = "search" if variant is None else "final"
        name = f"{root}/{task}/{method}/{label or 'plain'}-{json_hash(identified)[:8]}/seed-{seed}"
        results = self.output_dir / ("search.csv" if variant is None else "results.csv")
        own = self.output_dir / name
        command = (
            program_of(method).script, "--model_name_or_path", str(folder / "teacher"),
            "--model_name_or_path_for_copy", self.base, "--do_train", "--do_eval", "--skip_teacher_eval",
            "--results_file", str(results), *self.common(place, task, own), *given,
            *([] if variant is None else ["--log_relations"]),
        )
        commands = (command,) if variant is None else (command, self.analysis(task, method, seed, own, name, flags))
        return Cell("student", stage, task, method, seed, name, commands, own, identified, results)

    def analysis(self, task, method, seed, folder, name, flags):
        """The command that measures what a student of the final runs took over from its teacher."""
        given = {key: flags[key] for key in ("max_seq_length", "do_lower_case", "mask_padding", "no_cuda") if key in flags}
        return ("scripts/analyse.py", "--model_name_or_path", str(self.output_dir / "final" / task / "teacher"),
                "--student_model_name_or_path", str(folder), "--task_name", task, "--data_dir", self.data_dir,
                "--output_file", str(self.analysis_file(name)), "--curves", str(self.output_dir / "runs"), *words(given))

    def analysis_file(self, name):
        """Where the analysis of a final cell lies."""
        return self.output_dir / "analysis" / (name.removeprefix("final/").replace("/", "-") + ".json")

    def teacher_analysis(self, task):
        """The cell that compares a teacher with itself, for the heat maps."""
        flags = self.flags("teacher", task)
        folder = self.output_dir / "final" / task / "teacher"
        name = f"final/{task}/teacher-analysis"
        command = self.analysis(task, "teacher", TEACHER_SEED, folder, name, flags)
        return Cell("analysis", "teachers (analysis)", task, "teacher", TEACHER_SEED, name, (command,), self.analysis_file(name))


def is_built(cell):
    """Whether what a split, teacher or memory writes is there."""
    files = {"split": "split.json", "teacher": "model.safetensors", "memory": "memory.safetensors"}
    return (cell.folder / files[cell.kind]).exists() if cell.kind in files else cell.folder.exists()


def main_metric_of(task):
    """The column that a task's settings are chosen by; MNLI's is that of its matched half."""
    from fsd.glue.metrics import main_metric

    return main_metric(find_task(task))


def row_flags(row):
    """The flags of a results row; an empty dictionary for a row of an older version."""
    try:
        flags = json.loads(row["flags"] or "{}")
    except json.JSONDecodeError:
        return {}
    return flags if isinstance(flags, dict) else {}


def _short(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
