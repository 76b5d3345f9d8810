"""Hold out part of a task's training data, to choose hyper-parameters without using dev.

    python scripts/hold_out.py --data_dir DATA --task_name RTE --output_dir HELD

splits the official train.tsv at random into HELD/RTE/train.tsv and HELD/RTE/dev.tsv (MNLI's two dev files get the same
rows). Give HELD as --data_dir to the other scripts. HELD/RTE/split.json tells them what was split: a teacher or a memory that
has seen the held-out rows is refused.
"""

import fsd.cli.early_signals  # noqa: F401

import json
import random
from pathlib import Path

from fsd.cli.arguments import add_seed_argument
from fsd.cli.parser import Parser, number
from fsd.glue.files import read_split
from fsd.glue.origin import SPLIT_FILE
from fsd.glue.tasks import TASKS, find_task
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder, written_whole
from fsd.system.hashes import file_hash
from fsd.system.random_streams import stream_seed


def main():
    parser = Parser(__doc__)
    parser.add_argument("--task_name", required=True, help=f"one of {', '.join(task.name for task in TASKS)}, in any case")
    parser.add_argument("--data_dir", required=True, help="the task's folder, or the GLUE folder above it")
    parser.add_argument("--output_dir", required=True, help="folder to write the task's folder into")
    parser.add_argument("--share", type=number(float, above=0, maximum=0.9), default=0.2, help="share of examples to hold out")
    add_seed_argument(parser)
    args = parser.parse_args()

    task = find_task(args.task_name)
    split = read_split(task, args.data_dir, "train")
    folder = Path(args.output_dir) / task.name
    check_folder(folder, f"--output_dir {args.output_dir}")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--output_dir {args.output_dir}: {folder} is not empty; name another folder")
    if folder.parent.resolve() == split.path.parent.resolve():
        raise InputError(f"--output_dir {args.output_dir} is the task's own folder, whose files the parts would be "
                         "mistaken for; name another folder")
    lines = split.path.read_bytes().removesuffix(b"\n").split(b"\n")
    header = [] if task.name == "CoLA" else [lines.pop(0)]
    if len(lines) < 2:
        raise InputError(f"{split.path}: one example cannot be split; restore the official file")
    count = min(max(1, round(args.share * len(lines))), len(lines) - 1)
    held_out = set(random.Random(stream_seed(args.seed, "held out")).sample(range(len(lines)), count))
    parts = {"train": [line for i, line in enumerate(lines) if i not in held_out]}
    parts |= {name: [line for i, line in enumerate(lines) if i in held_out] for name in task.dev_splits}
    record = {"source": file_hash(split.path), "share": args.share, "seed": args.seed}
    with written_whole(folder, folder=True) as temporary:
        (temporary / SPLIT_FILE).write_text(json.dumps(record, indent=2) + "\n")
        for name, part in parts.items():
            (temporary / task.files[name]).write_bytes(b"\n".join(header + part) + b"\n")
    for name, part in parts.items():
        print(f"{folder / task.files[name]}: {len(part)} examples")


if __name__ == "__main__":
    exit_on_input_error(main)
