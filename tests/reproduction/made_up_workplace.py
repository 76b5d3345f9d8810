"""A workplace whose runs are made up: rows and files are written by hand, and nothing is trained."""

import json

import torch
from safetensors.torch import save_file

from fsd.records.results import append_result
from fsd.reproduction.cells import Workplace, main_metric_of
from fsd.reproduction.experiment_file import checked
from fsd.reproduction.plan import Plan
from fsd.system.files import write_json
from fsd.system.hashes import tensor_hash


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
            command = cell.commands[0]
            teacher = self.folder.joinpath(command[command.index("--model_name_or_path") + 1])
            made_from = {"teacher_hash": tensor_hash(weights_of(teacher))}
            cell.folder.mkdir(parents=True)
            save_file({"x": torch.ones(1)}, cell.folder / "memory.safetensors", {"memory": json.dumps(made_from)})
        else:
            cell.folder.mkdir(parents=True, exist_ok=True)
            save_file(weights_of(cell.folder), cell.folder / "model.safetensors")
            write_json(cell.folder / "training_args.json", {"run": cell.name, "finished": True, "settings": {}})
            row = {"task": cell.task, "method": cell.method, "role": cell.kind, "seed": cell.seed, "run": cell.name,
                   "flags": json.dumps(cell.flags), main_metric_of(cell.task): score, "seconds": 10, "steps": 5}
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
