"""A reproduction as reproduce.py leaves it, of made-up numbers."""

import math
import random

from fsd.method.relations import RELATIONS
from fsd.records.results import append_result
from fsd.report.names import METHODS
from fsd.report.runs import RATES
from fsd.system.files import write_json, write_text

TASKS = {"RTE": "acc", "CoLA": "mcc", "STS-B": "corr"}

TABLE = """<!-- written by scripts/make_tables.py -->

**Table 2: scores**

| | | VKD | FSD |
| --- | --- | ---: | ---: |
| RTE acc | ours | 65.4 ± 0.2 | **66.6 ± 1.0†** |
|  | a<b | 1 | <0.01 |

- VKD is `KD`.
- A note
  of two lines.
"""


def analysis(task, method, seed, quality, batches=6, layers=(13, 7), steps=12):
    """The content of an analysis file. ``quality``: how near the student is to its teacher, 0 to 1."""
    rng = random.Random(f"{task}{method}{seed}")
    near = [[0.6 + 0.3 * rng.random() + (0.1 * quality if i == j else 0) for j in range(batches)] for i in range(batches)]
    depth = [[math.exp(-((i / layers[0] - j / layers[1]) ** 2) * 5) * (0.7 + 0.3 * quality) for j in range(layers[1])]
             for i in range(layers[0])]
    logged = {"step": [50 * (at + 1) for at in range(steps)]}
    for place, name in enumerate(RELATIONS):
        logged[name] = [(1.4 - quality) * (place + 1) * math.exp(-at / 5) + 0.03 * rng.random() + 0.2 for at in range(steps)]
    return {
        "task": task, "method": method, "seed": seed, "batch_size": 32, "teacher_hash": "ab12cd34",
        "run": f"{task}-{method}-{seed}",
        "restoration": None if task == "STS-B" else {
            rate: 0.8 + 0.15 * quality + 0.04 * rng.random() for rate in (*RATES, "agreement")
        },
        "cka": {"split": "test", "batch_size": 32, "map": near,
                "mean_diagonal": sum(near[i][i] for i in range(batches)) / batches,
                "shuffled_mean_diagonal": 0.7 + 0.02 * rng.random()},
        "layers": {"map": depth}, "relations": {name: logged[name][-1] for name in RELATIONS},
        "curves": None if method == "teacher" else logged,
    }


def add_run(folder, task, method, seed, quality, **changes):
    """Add a run's row and its analysis file; ``changes`` are those of the analysis."""
    role = "teacher" if method == "teacher" else "student"
    row = {
        "task": task, "method": "fine-tuning" if method == "teacher" else method, "role": role, "seed": seed, "batch_size": 32,
        TASKS[task]: 0.5 + 0.3 * quality + 0.01 * seed, "run": f"{task}-{method}-{seed}",
        "copied_from": "models/bert-base-uncased",
        "student_layers": 12 if method == "teacher" else 6, "student_hidden_size": 768,
    }
    append_result(folder / "results.csv", row)
    write_json(folder / "analysis" / f"{task}-{method}-{seed}-1a2b.json", analysis(task, method, seed, quality) | changes)


def make_reproduction(folder, tasks=TASKS, seeds=(1, 2)):
    """Write a reproduction of all methods into ``folder``."""
    for task in tasks:
        for place, method in enumerate(METHODS):
            for seed in seeds if method != "teacher" else seeds[:1]:
                add_run(folder, task, method, seed, 1.0 if method == "teacher" else place / len(METHODS))
    write_text(folder / "chosen.toml", 'selected_on = "held-out"\n')
    write_json(folder / "failed.json", {"RTE/KD/1a2b/seed-3": "out of memory"})
    write_text(folder / "tables/table2.md", TABLE)
    write_text(folder / "tables/table10.md", f"{TABLE.splitlines()[0]}\n\n| Task | Note |\n| --- | --- |\n| RTE | one, two |\n")
    write_text(folder / "tables/table10.csv", "Task,Note\nwrong,1\n")
    write_text(folder / "tables/notes.md", "Notes of my own, of files written by scripts/make_tables.py.\n")
    return folder
