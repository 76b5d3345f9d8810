"""Measure the cost of structure distillation, relative to a minimal distillation loop and to a plain teacher forward.

    python scripts/benchmark.py --tables methods --sizes base --output gpu.json    on a GPU, about 5 minutes
    python scripts/benchmark.py --peers --output cpu.json                          all tables; two hours on 2 cores
    python scripts/benchmark.py --tables methods --sizes small --pairs 3           one table, faster
    python scripts/benchmark.py --show cpu.json                                    prints a file as one table

Each ratio compares blocks of steps that alternate in one process, so that a slow phase of the machine affects both sides.
Models and tokens are random; lengths are distributed as in the official training files. Prints Markdown.

    methods     our training loop with each method, --log_relations, each form of the structures and memories, and each
                speed option, against the minimal loop
    parts       what a step of FSD_ILG does beside KD's: each loss with its backward pass, and the optimizer
    growth      the steps of KD and FSD_ILG at other batch sizes, lengths, centroids and widths
    processes   FSD_ILG in two processes of one thread, against one process of two threads; on CPUs alone
    evaluation  our evaluation, against a bare forward pass over batches of sorted lengths
    inference   the evaluation of the students of the paper's Table 8, against that of KD's
    memory      the passes and the whole build of the teacher memory, and the student memory's start from it, against one
                teacher forward over the same data
    large       the build of a teacher memory on synthetic features of MNLI's size at BERT-base, or on fewer if time is short
"""

import fsd.cli.early_signals  # noqa: F401

import time
from pathlib import Path

from fsd.cli.arguments import add_hardware_arguments
from fsd.cli.parser import Parser, number
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder, write_json

TABLES = ("methods", "parts", "growth", "processes", "evaluation", "inference", "memory", "large")


def parse():
    """The command line."""
    parser = Parser(__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="what to measure")
    parser.add_argument("--sizes", nargs="+", choices=("small", "base"), default=["small", "base"],
        help="small: width 256, 4→2 layers, batch 32; base: BERT-base, 12→6, batches of 32 and 256 on a GPU and of 8 on a CPU")
    parser.add_argument("--pairs", type=number(int, 2),
        help="blocks of each method; usually 9, on a GPU 5; BERT-base on a CPU: at most 5")
    parser.add_argument("--steps", type=number(int, 1),
        help="steps per block; usually 20, on a GPU those of half a second; BERT-base on a CPU: at most 4")
    parser.add_argument("--batch_size", type=number(int, 2), help="replaces the batch size of --sizes")
    parser.add_argument("--only", help="text that a row of the methods table must contain")
    parser.add_argument("--minutes", type=number(float, above=0), default=10, help="time limit of the large table, in minutes")
    parser.add_argument("--peers", action="store_true", help="measure TextBrewer's KD in the methods table, if it is installed")
    parser.add_argument("--output", help="JSON file for all figures. If there is one of this machine, its figures of other "
        "tables and sizes stay; with --only, those of other rows, too")
    parser.add_argument("--show", metavar="FILE", help="measure nothing; print the ratios of such a file as one table")
    add_hardware_arguments(parser, precision=False)
    args = parser.parse_args()
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    if args.show and given != ["show"]:
        raise InputError(f"--show measures nothing, so --{min(set(given) - {'show'})} has no effect; leave it out")
    if args.output:
        check_folder(Path(args.output).parent, f"--output {args.output}")
        if Path(args.output).is_dir():
            raise InputError(f"--output {args.output} is a folder; name a file")
    if (args.only or args.peers) and "methods" not in args.tables:
        raise InputError("--only and --peers are for the methods table; add it to --tables, or leave them out")
    if not args.show and not Path("/proc/self/clear_refs").exists():
        raise InputError("the peak of a process's memory is read from /proc: run this on Linux, or give --show FILE")
    return args


def main():
    args = parse()
    from benchmarks.results import earlier_tables, merged, show
    if args.show:
        return show(args.show)
    from fsd.records.versions import versions
    from fsd.system.devices import describe_device, pick_device

    from benchmarks.memory import measure_large, measure_memory
    from benchmarks.parts import measure_parts
    from benchmarks.processes import measure_processes
    from benchmarks.tables import measure_evaluation, measure_growth, measure_inference, measure_methods, sizes
    from benchmarks.training import Size

    device = pick_device(args.no_cuda)
    chosen = sizes(args.sizes, args.pairs, args.steps, args.batch_size, device)
    _, pairs, steps = chosen[0]
    measure = {
        "methods": lambda: measure_methods(chosen, device, args.only or "", args.peers),
        "parts": lambda: measure_parts(chosen, device),
        "growth": lambda: measure_growth(pairs, steps, device),
        "processes": lambda: measure_processes(Size("small", 256, 4, 32), min(pairs, 5), steps),
        "evaluation": lambda: measure_evaluation(chosen, device), "inference": lambda: measure_inference(chosen, device),
        "memory": lambda: measure_memory(chosen, device), "large": lambda: measure_large(args.minutes, device),
    }
    start, about = time.monotonic(), {"date": time.strftime("%Y-%m-%d")} | versions()
    figures = {"device": describe_device(device)} | {name: about[name] for name in ("python", "torch", "transformers")}
    figures["tables"] = dict(earlier_tables(args.output, figures)) if args.output else {}
    print(f"{about['date']}, {figures['device']}, torch {figures['torch']}, transformers {figures['transformers']}, "
          f"commit {about['commit']}\n", flush=True)
    for name in args.tables:
        if name == "processes" and device.type == "cuda":
            continue
        earlier, new = figures["tables"].get(name, []), []
        for rows in measure[name]():
            new += [row | {"date": about["date"], "commit": about["commit"]} for row in rows]
            figures["tables"][name] = merged(earlier, new, ("size", "method", "options"))
            if args.output:
                write_json(args.output, figures)
            print(f"\n{time.monotonic() - start:.0f} s so far", flush=True)
        if not (args.only and name == "methods"):  # all rows of these sizes are measured; those of older versions go
            figures["tables"][name] = merged(earlier, new, ("size",))
            if args.output:
                write_json(args.output, figures)


if __name__ == "__main__":
    exit_on_input_error(main)
