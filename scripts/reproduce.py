"""Run an experiment of the paper: search the settings, train every method on every task with every seed, and analyse.

    python scripts/reproduce.py scripts/experiments/table2.toml --data_dir DATA --model_name_or_path bert-base-uncased \\
        --output_dir REPRO
    python scripts/make_tables.py --results REPRO --output_dir REPRO/tables
    python scripts/make_figures.py --results REPRO --output_dir REPRO/figures

The same command goes on after any stop. With --dry_run it prints the commands that can start now and how much is to come. They
may run anywhere, four at a time here; called again it prints the next ones (scripts/reproduce.sbatch does so under Slurm):

    python scripts/reproduce.py … --dry_run | tr '\\n' '\\0' | xargs -0 -n 1 -P 4 bash -c
"""

import fsd.cli.early_signals  # noqa: F401

import logging
import sys
from pathlib import Path

from fsd.cli.parser import Parser, number
from fsd.glue.files import find_split
from fsd.glue.tasks import find_task
from fsd.models.hub import find_model
from fsd.records.results import check_results_file
from fsd.reproduction.chosen import SELECTIONS, read_chosen
from fsd.reproduction.experiment_file import read_experiment
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder
from fsd.system.locks import exclusive_lock
from fsd.system.logs import start_logging

logger = logging.getLogger("fsd.reproduce")


def parse():
    """The command line."""
    parser = Parser(__doc__)
    parser.add_argument("experiment", help="an experiment file, such as scripts/experiments/table2.toml")
    parser.add_argument("--data_dir", required=True, help="the GLUE folder")
    parser.add_argument("--model_name_or_path", required=True,
        help="the pretrained encoder that teachers start from and students copy from, as bert-base-uncased")
    parser.add_argument("--output_dir", required=True, help="folder for everything; results.csv and chosen.toml are in it")
    parser.add_argument("--tasks", nargs="+", help="only these tasks of the experiment")
    parser.add_argument("--methods", nargs="+", help="only these methods, and the searches that they depend on")
    parser.add_argument("--seeds", nargs="+", type=number(int, 0), help="only these seeds of the final runs")
    parser.add_argument("--select_on", choices=SELECTIONS,
        help="where settings are chosen: on a fifth of the training data, held out for it, or on dev as in the paper "
             "(default: held-out)")
    parser.add_argument("--chosen", help="take the settings of this chosen.toml and skip the search")
    parser.add_argument("--jobs", type=number(int, 1),
        help="runs side by side: on CPUs, which share out the threads, or on each GPU (default: 1)")
    parser.add_argument("--keep_students", action="store_true",
        help="keep the weights of the final students that this call trains")
    parser.add_argument("--cuda_graphs", action="store_true",
        help="train with --cuda_graphs where it works: faster with a small model and few runs side by side")
    parser.add_argument("--dry_run", action="store_true",
        help="print the commands that can start now, one a line, and on standard error what is to come; run nothing")
    parser.add_argument("--seconds_per_step", type=number(float, above=0),
        help="with --dry_run: the time of a step, to estimate hours before anything has run")
    args = parser.parse_args()
    if args.select_on and args.chosen:
        raise InputError("--select_on is for a search, and --chosen skips it: leave one of them out")
    if args.seconds_per_step and not args.dry_run:
        raise InputError("--seconds_per_step needs --dry_run: it changes nothing but the estimate")
    return args


def main():
    args = parse()
    experiment = read_experiment(args.experiment)
    tasks = narrowed("tasks", args.tasks and [find_task(name).name for name in args.tasks], experiment.tasks)
    methods = narrowed("methods", args.methods, experiment.methods)
    seeds = narrowed("seeds", args.seeds, experiment.seeds)
    for task in tasks:
        for split in ("train", *find_task(task).dev_splits):
            find_split(find_task(task), args.data_dir, split)
    check_folder(args.output_dir, f"--output_dir {args.output_dir}")
    for name in ("results.csv", "search.csv", "search-dev.csv"):
        try:
            check_results_file(Path(args.output_dir) / name)
        except InputError as error:
            raise InputError(str(error).removeprefix("--results_file ")) from error
    earlier = Path(args.output_dir) / "chosen.toml"
    if earlier.exists():
        read_chosen(earlier)  # it is added to; a damaged one is told before anything runs
    selected_on, given = read_chosen(args.chosen) if args.chosen else (args.select_on or SELECTIONS[0], None)

    from fsd.reproduction.cells import Workplace
    from fsd.reproduction.plan import Plan
    from fsd.reproduction.sources import check_sources
    from fsd.system.devices import pick_device

    if args.cuda_graphs:
        pick_device(cuda_graphs=True)
    workplace = Workplace(
        experiment, args.data_dir, args.model_name_or_path, args.output_dir, args.select_on == "dev", args.cuda_graphs
    )
    check_sources(workplace, tasks)
    plan = Plan(workplace, tasks, methods, seeds, given, selected_on)
    find_model(args.model_name_or_path, "--model_name_or_path")
    with start_logging():
        if plan.look().ready:
            warn_of_slow_precision(experiment, tasks, args.experiment)
        if args.dry_run:
            show(plan, args.seconds_per_step)
        else:
            run(plan, args)


def show(plan, seconds_per_step):
    """Print what can start now, and how much is to come."""
    from fsd.reproduction.runner import counts_table, shell_line
    from fsd.reproduction.timing import Rates

    progress = plan.look()
    for cell in progress.ready:
        print(shell_line(cell))
    print(counts_table(progress, Rates(plan, seconds_per_step)), file=sys.stderr)


def run(plan, args):
    """Run what is to come, and report."""
    from fsd.reproduction.runner import Runner, counts_table, slots_of
    from fsd.reproduction.timing import Rates

    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    waits = "waiting for runs of an earlier call in %s"
    with exclusive_lock(lock, on_wait=lambda: logger.warning(waits, folder)) as descriptor:
        failed = Runner(plan, slots_of(args.jobs), descriptor, args.keep_students).run()
    print(counts_table(plan.look(failed), Rates(plan)), file=sys.stderr)
    for name, line in failed.items():
        print(f"failed: {name}: {line}", file=sys.stderr)
    sys.exit(1 if failed else 0)


def warn_of_slow_precision(experiment, tasks, path):
    """Warn if an experiment file asks for a precision that this CPU is slow in."""
    import torch

    from fsd.reproduction.experiment import of_task
    from fsd.system.devices import pick_device, slowdown_on_cpu

    given = [of_task(flags, task) for flags in (experiment.settings, experiment.teacher) for task in tasks]
    for name, precision in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        asked_for = any(flags.get(name) for flags in (*given, *experiment.variants))
        if asked_for and (times := slowdown_on_cpu(pick_device(), precision)):
            logger.warning("%s: %s = true takes about %.0f times as long as float32 on this CPU; stop this, and take it out "
                           "of a copy of the file", path, name, times)


def narrowed(what, wanted, known):
    """The wanted tasks, methods or seeds, in the experiment's order."""
    if wanted is None:
        return known
    if unknown := [name for name in wanted if name not in known]:
        raise InputError(f"--{what}: {unknown[0]} is not in the experiment, which has {', '.join(map(str, known))}")
    return tuple(name for name in known if name in wanted)


if __name__ == "__main__":
    exit_on_input_error(main)
