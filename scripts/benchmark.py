"""Measure the cost of structure distillation, relative to a minimal distillation loop and to a plain teacher forward.

    python scripts/benchmark.py --output benchmark.json                       all tables; about an hour and a half on 2 cores
    python scripts/benchmark.py --tables methods --sizes small --pairs 3      one table, faster

Each ratio compares blocks of steps that alternate in one process, so that a slow phase of the machine affects both sides.
Models and tokens are random; lengths are distributed as in the official training files. Prints Markdown.

    methods   our training loop with each method, --log_relations, each form of the structures and memories and each speed
              option, against the minimal loop
    growth    the same for KD and FSD_ILG at other batch sizes, lengths, centroids and widths
    inference the evaluation of the students of the paper's Table 8, against that of KD's
    memory    the passes and the whole build of the teacher memory, and the student memory's start from it, against one
              teacher forward over the same data
    large     the build of a teacher memory on synthetic features of MNLI's size at BERT-base, or on fewer if time is short
"""

import fsd.cli.early_signals  # noqa: F401

import time
from pathlib import Path

from fsd.cli.arguments import add_hardware_arguments
from fsd.cli.parser import Parser, number
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import write_json

TABLES = ("methods", "growth", "inference", "memory", "large")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="what to measure")
    parser.add_argument("--sizes", nargs="+", choices=("small", "base"), default=["small", "base"],
        help="small: width 256, 4→2 layers, batch 32; base: BERT-base, 12→6, batch 32 on a GPU and 8 on a CPU")
    parser.add_argument("--pairs", type=number(int, 2), default=9, help="blocks of each method; BERT-base on a CPU: at most 5")
    parser.add_argument("--steps", type=number(int, 1), default=20, help="steps per block; BERT-base on a CPU: at most 4")
    parser.add_argument("--batch_size", type=number(int, 2), help="replaces the batch size of --sizes")
    parser.add_argument("--only", default="", help="text that a row of the methods table must contain")
    parser.add_argument("--minutes", type=number(float, above=0), default=10, help="time limit of the large table, in minutes")
    parser.add_argument("--output", help="JSON file for all figures")
    add_hardware_arguments(parser, precision=False)
    args = parser.parse_args()
    if args.output and Path(args.output).is_dir():
        raise InputError(f"--output {args.output} is a folder; name a file")

    from fsd.records.versions import versions
    from fsd.system.devices import describe_device, pick_device

    from benchmarks.memory import measure_large, measure_memory
    from benchmarks.tables import measure_growth, measure_inference, measure_methods, sizes

    device = pick_device(args.no_cuda)
    chosen = sizes(args.sizes, args.pairs, args.steps, args.batch_size, device)
    measure = {
        "methods": lambda: measure_methods(chosen, device, args.only), "inference": lambda: measure_inference(chosen, device),
        "growth": lambda: measure_growth(args.pairs, args.steps, device), "memory": lambda: measure_memory(chosen, device),
        "large": lambda: measure_large(args.minutes, device),
    }
    figures = {"date": time.strftime("%Y-%m-%d"), "device": describe_device(device), **versions(), "tables": {}}
    print(f"{figures['date']}, {figures['device']}, torch {figures['torch']}, transformers {figures['transformers']}, "
          f"commit {figures['commit']}\n", flush=True)
    for name in args.tables:
        figures["tables"][name] = measure[name]()
        if args.output:
            write_json(args.output, figures)


if __name__ == "__main__":
    exit_on_input_error(main)
