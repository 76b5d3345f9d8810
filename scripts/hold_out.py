"""Hold out part of a task's training data, to choose hyper-parameters without using dev.

    python scripts/hold_out.py --data_dir DATA --task_name RTE --output_dir HELD

splits the task's train.tsv at random into HELD/RTE/train.tsv and HELD/RTE/dev.tsv (MNLI's two dev files get the same
rows). A task of your own (--task_file) keeps its file names and its format. Give HELD as --data_dir to the other scripts.
HELD/RTE/split.json tells them what was split: a teacher or a memory that has seen the held-out rows is refused.
"""

import fsd.cli.early_signals  # noqa: F401

import json
import random
from pathlib import Path

from fsd.cli.arguments import add_seed_argument
from fsd.cli.checks import named_task
from fsd.cli.parser import Parser, add_task_argument, number
from fsd.glue.files import read_split
from fsd.glue.origin import SPLIT_FILE
from fsd.glue.rows import raw_records
from fsd.glue.tasks import plain_name
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder, written_whole
from fsd.system.hashes import file_hash
from fsd.system.random_streams import stream_seed


def main():
    parser = Parser(__doc__)
    add_task_argument(parser)
    parser.add_argument("--data_dir", required=True, help="the task's folder, or the GLUE folder above it")
    parser.add_argument("--output_dir", required=True, help="folder to write the task's folder into")
    parser.add_argument("--share", type=number(float, above=0, maximum=0.9), default=0.2, help="share of examples to hold out")
    add_seed_argument(parser)
    args = parser.parse_args()

    task = named_task(args)
    split = read_split(task, args.data_dir, "train")
    folder = Path(args.output_dir) / task.name
    check_folder(folder, f"--output_dir {args.output_dir}")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--output_dir {args.output_dir}: {folder} is not empty; name another folder")
    place = split.path.parent.resolve()
    has_name = plain_name(place.name) == plain_name(task.name)
    if folder.parent.resolve() in ([place, place.parent] if has_name else [place]):
        raise InputError(f"--output_dir {args.output_dir} holds the task's own files, which the parts would be mistaken "
                         "for; name another folder")
    if len(kinds := {Path(task.files[name]).suffix for name in ("train", *task.dev_splits)}) > 1:
        raise InputError(f"{task.name}: train and dev end in {' and '.join(sorted(kinds))}; give both the same ending")
    header, lines = raw_records(split.path, has_header=not task.bare_columns)
    if len(lines) < 2:
        raise InputError(f"{split.path}: one example cannot be split; restore the file")
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
