"""A workplace whose runs are made up: rows and files are written by hand, and nothing is trained."""

import csv
import json

import torch
from safetensors.torch import save_file

from fsd.glue.metrics import main_metric
from fsd.glue.tasks import find_task
from fsd.records.results import append_result
from fsd.reproduction.cells import Workplace
from fsd.reproduction.experiment_file import checked
from fsd.reproduction.plan import TRAINED_WITH, Plan
from fsd.system.files import write_json
from fsd.system.hashes import tensor_hash

STAGES = [
    {"method": "KD", "grid": {"alpha": [0.2, 0.5], "num_train_epochs": [2]}, "keep": ["alpha"]},
    {"method": "FSD_I", "grid": {"beta": [3, 4]}},
    {"method": "FSD_G", "grid": {"beta": [1], "gamma_m": [0.1, 1]}},
    {"method": "FSD_G", "grid": {"gamma_m": [{"of": "FSD_G.gamma_m", "times": [0.5, 1, 5]}]}},
    {"method": "FSD_ILG", "points": [{"beta": 1, "gamma_m": "FSD_G.gamma_m"}], "grid": {"gamma_i": [0.1, 4, "FSD_I.beta"]}},
]
CONTENT = {
    "tasks": ["RTE"], "methods": ["fine-tuning", "KD", "FSD_I", "FSD_G", "FSD_ILG"], "seeds": [1, 2],
    "settings": {"max_seq_length": 32, "mask_padding": True, "cache_teacher": True}, "memory": {"num_centroid": 3},
    "stages": STAGES,
}
KD_ALONE = {"methods": ["KD"], "stages": STAGES[:1]}


class MadeUp:
    """The workplace of an experiment below ``folder``; ``changes`` replace keys of the experiment file."""

    def __init__(self, folder, content):
        self.folder, self.content = folder, content

    def plan(self, given=None, on_dev=False, tasks=None, methods=None, seeds=None, cuda_graphs=False, **changes):
        """A new plan, as each call of reproduce.py makes one."""
        experiment = checked(self.content | changes)
        workplace = Workplace(experiment, str(self.folder / "glue"), "base", self.folder, on_dev, cuda_graphs)
        return Plan(workplace, tasks or experiment.tasks, methods or experiment.methods, seeds or experiment.seeds, given)

    def look(self, failed=(), **options):
        """The progress of a new plan."""
        return self.plan(**options).look(failed)

    def ready(self, failed=(), **options):
        """The names of the cells that are ready, without hashes."""
        return [short(cell) for cell in self.look(failed, **options).ready]

    def finish(self, cell, score=0.5, **changes):
        """Leave what a cell leaves, as its program does; ``changes`` are those of its row."""
        if cell.kind == "split":
            write_json(cell.folder / "split.json", {})
        elif cell.kind == "analysis":
            write_json(cell.folder, {})
        elif cell.kind == "memory":
            teacher = cell.option("--model_name_or_path")
            made_from = {"teacher_hash": tensor_hash(weights_of(teacher))}
            cell.folder.mkdir(parents=True)
            save_file({"x": torch.ones(1)}, cell.folder / "memory.safetensors", {"memory": json.dumps(made_from)})
        else:
            cell.folder.mkdir(parents=True, exist_ok=True)
            save_file(weights_of(cell.folder), cell.folder / "model.safetensors")
            write_json(cell.folder / "training_args.json", {"run": cell.name, "finished": True, "settings": {}})
            row = {"task": cell.task, "method": cell.method, "role": cell.kind, "seed": cell.seed, "run": cell.name,
                   "flags": json.dumps(cell.flags), main_metric(find_task(cell.task)): score, "seconds": 10, "steps": 5}
            if cell.kind == "student":
                row |= {column: cell.option(flag) for column, flag in TRAINED_WITH.items() if flag in cell.commands[0]}
            append_result(cell.results, row | changes)
            if len(cell.commands) == 2:
                command = cell.commands[1]
                write_json(self.folder / command[command.index("--output_file") + 1], {})

    def finish_all(self, score=lambda cell: 0.5, until=lambda cell: False, **options):
        """Finish whatever is ready, again and again; stops before a cell for which ``until`` holds."""
        while True:
            cells = [cell for cell in self.look(**options).ready if not until(cell)]
            if not cells:
                return
            for cell in cells:
                self.finish(cell, score(cell))


def weights_of(folder):
    """The weights of a made-up model: a folder of another name has others."""
    return {"weight": torch.tensor([float(sum(map(ord, folder.name)))])}


def short(cell):
    """A cell's name without hashes."""
    return "/".join(part.rsplit("-", 1)[0] if "-" in part and not part.startswith(("seed", "held")) and part[-8:].isalnum()
                    and len(part.rsplit("-", 1)[1]) == 8 and part.rsplit("-", 1)[1] != "analysis" else part
                    for part in cell.name.split("/"))


def flag(cell, name, at=0):
    """The value of a flag in a cell's command."""
    command = cell.commands[at]
    return command[command.index(f"--{name}") + 1]


def finish_first(made_up, name, score=0.5, **options):
    """Finish the first ready cell whose name starts so."""
    cell = next(cell for cell in made_up.look(**options).ready if cell.name.startswith(name))
    made_up.finish(cell, score)
    return cell


def rows(made_up, name):
    """The rows of a results file, as dictionaries of text."""
    with open(made_up.folder / name, newline="") as file:
        return list(csv.DictReader(file))
