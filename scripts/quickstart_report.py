"""Compare finished runs of one task in a table (scores, sizes, speed, training time) and a figure.

    python scripts/quickstart_report.py --results_file quickstart/CoLA/results.csv --run_file quickstart/runs \\
        --data_dir quickstart/glue --figure quickstart/CoLA/comparison.png

Compares the runs that differ from the file's last student only in the method and its weights, and times their models on the
task's dev set. Of several such runs of one method, the last counts. A line for each other run says why it is left out.
"""

import fsd.cli.early_signals  # noqa: F401

import math
import statistics
import time
from pathlib import Path

from fsd.cli.arguments import add_hardware_arguments
from fsd.cli.parser import Parser
from fsd.glue.tasks import METRIC_NAMES, find_task
from fsd.records.results import path_of_row, read_results
from fsd.report.names import METHODS
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import check_folder, read_json, written_whole

PANELS = {  # of these, the figure has those that some run trained with
    "task_loss": "task loss", "dark_knowledge": "dark knowledge", "intra": "intra-feature loss",
    "local_inter": "local inter-feature loss", "global_cosine": "global inter-feature loss, cosine part",
    "pkd": "PKD", "rkd_distance": "RKD, distances", "rkd_angle": "RKD, angles", "attention": "MiniLM, attention",
    "value_relation": "MiniLM, value relations",
}
SETTINGS = (  # what students that are compared have in common; the weights of the structures are the method's own
    "teacher", "seed", "alpha", "temperature", "do_layerwise", "mask_padding", "copied_from", "student_layers",
    "student_hidden_size", "train_samples", "train_data", "teacher_data", "max_seq_length", "batch_size", "accumulation",
    "epochs", "steps", "learning_rate", "precision", "group_by_length", "compile", "cuda_graphs", "cache_teacher",
    "student_model_type",
)
BATCH_SIZES = (1, 32)
ROUNDS = 30


def main():
    parser = Parser(__doc__)
    parser.add_argument("--results_file", required=True, help="results file of the runs")
    parser.add_argument("--run_file", required=True, help="TensorBoard folder of the runs")
    parser.add_argument("--data_dir", required=True, help="their data: the task's folder, or the GLUE folder above it")
    parser.add_argument("--figure", required=True, help="PNG file to write")
    add_hardware_arguments(parser, precision=False)
    args = parser.parse_args()
    check_folder(Path(args.figure).parent, f"--figure {args.figure}")
    if Path(args.figure).suffix != ".png" or Path(args.figure).exists() and not Path(args.figure).is_file():
        raise InputError(f"--figure {args.figure}: name a PNG file, ending in .png")
    results, left_out = runs_to_compare(args.results_file)
    curves = {method: read_losses(args.run_file, method, row) for method, row in results.items()}
    device, sizes, latencies = measure_models(results, args.data_dir, args.no_cuda)
    draw(results, curves, args.figure)
    print(f"\n{table(results, sizes, latencies)}\n")
    print("".join(f"left out: {line}\n" for line in left_out), end="")
    print(f"ms: median forward time per example, alone and in a batch of {BATCH_SIZES[1]}, on {device}")
    print(f"seconds: training time\nfigure: {args.figure}")


def runs_to_compare(path):
    """({method: its row (a dict)} in the order of ``METHODS``, a line for each other row: why it is left out).

    Raises:
        InputError: the file cannot be read, or its rows have several tasks, other methods or bad numbers.
    """
    if not Path(path).is_file():
        raise InputError(f"--results_file {path}: no such file; name the one that the runs wrote")
    rows = read_results(path)
    methods = ["teacher" if is_teacher(row) else row["method"] for row in rows]
    tasks = sorted({row["task"] for row in rows})
    if len(tasks) != 1 or set(methods) - set(METHODS):
        raise InputError(f"--results_file {path}: runs of one task with methods among {', '.join(METHODS)} are compared, not "
                         f"{', '.join(sorted(set(methods))) or 'none'} on {', '.join(tasks) or 'none'}")
    last, left_out = {}, []
    reference = next((row for row in reversed(rows) if not is_teacher(row)), None)
    for method, row in reversed(list(zip(methods, rows, strict=True))):
        reason = difference(row, reference) or ("a later run of the method counts" if method in last else "")
        if reason:
            left_out.append(f"{method}, {row['run'] or row['output_dir']}: {reason}")
        else:
            last[method] = row | {"output_dir": path_of_row(row["output_dir"], path)}
    for method, row in last.items():
        for name in (*METRIC_NAMES, "seconds"):
            if row[name] and not is_finite(row[name]):
                raise InputError(f"--results_file {path}: {method}'s last row: {name} is {row[name]!r}, not a number; correct it")
    return {method: last[method] for method in METHODS if method in last}, left_out[::-1]


def difference(row, reference):
    """What sets a run apart from the students that are compared, beside its method; "" if nothing does.

    Cells that are empty on one side played no part there, or are not known.
    """
    if reference is None:
        return ""
    if is_teacher(row):
        names = "", row["output_dir"], Path(row["output_dir"]).name  # see model_for_row
        return "not the teacher of these students" if reference["teacher"] not in names else ""
    names = [name for name in SETTINGS if row[name] and reference[name] and row[name] != reference[name]]
    return ", ".join(f"{name} {row[name]} instead of {reference[name]}" for name in names)


def is_teacher(row):
    """Whether a row is the teacher's. Rows of older versions have no role; there fine-tuning makes the teacher."""
    return row["role"] == "teacher" if row["role"] else row["method"] == "fine-tuning"


def is_finite(text):
    """Whether the text is a number, neither infinite nor NaN."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_losses(run_file, method, row):
    """Loss name → step → value of the run in a results row, read from its TensorBoard folder.

    Raises:
        InputError: the run has no such folder, or its files cannot be read.
    """
    from fsd.analysis.curves import read_scalars

    folder = Path(run_file) / Path(row["run"]).name
    if not folder.is_dir():
        raise InputError(f"--run_file {run_file}: no run {folder.name} of {method} in it; name the --run_file of the runs")
    return read_scalars(folder, "train", "--run_file")


def measure_models(results, data_dir, no_cuda):
    """(device name, {method: number of parameters}, {method: [ms per example at each of BATCH_SIZES]})."""
    from fsd.glue.encoding import encode_split
    from fsd.models.hub import find_model
    from fsd.models.loading import load_finetuned
    from fsd.models.student import parameter_count
    from fsd.models.tokenizer import load_tokenizer
    from fsd.system.devices import describe_device, pick_device

    device, flag = pick_device(no_cuda), "--results_file: output_dir"
    row = next(iter(results.values()))
    task, run = find_task(row["task"]), read_run(row["output_dir"])
    tokenizer = load_tokenizer(find_model(row["output_dir"], flag), run["do_lower_case"])
    loaded = {
        method: load_finetuned(find_model(row["output_dir"], flag), task, tokenizer, run["max_seq_length"]).to(device).eval()
        for method, row in results.items()
    }
    dataset = encode_split(task, data_dir, "dev", tokenizer, run["max_seq_length"]).to(device)
    by_size = [latencies(loaded, dataset, size) for size in BATCH_SIZES]
    sizes = {method: parameter_count(model) for method, model in loaded.items()}
    return describe_device(device), sizes, {method: [times[method] for times in by_size] for method in loaded}


def read_run(output_dir):
    """The flags of a finished run that its encoding depends on.

    Raises:
        InputError: ``training_args.json`` is missing or was not written by a run.
    """
    path = Path(output_dir) / "training_args.json"
    value = read_json(path)
    flags = value.get("arguments") if isinstance(value, dict) else None
    kinds = {"max_seq_length": int, "do_lower_case": bool}
    for name, kind in kinds.items():
        if not isinstance(flags, dict) or not isinstance(flags.get(name, ...), kind):
            raise InputError(f"{path}: it has no valid {name}; run the experiment again")
    return {name: flags[name] for name in kinds}


def latencies(loaded, dataset, batch_size):
    """Each model's median milliseconds per example. The models take turns, so that a busy machine slows all of them equally."""
    import torch

    from fsd.models.forward import forward

    def synchronize():
        if dataset.device.type == "cuda":
            torch.cuda.synchronize()

    times = {method: [] for method in loaded}
    with torch.no_grad():
        for turn in range(-3, ROUNDS):  # the first three are warm-up
            start = max(turn, 0) * batch_size
            batch = dataset.batch(torch.arange(start, start + batch_size) % len(dataset), cut_to_longest=True)
            for method, model in loaded.items():
                synchronize()
                began = time.perf_counter()
                forward(model, batch)
                synchronize()
                if turn >= 0:
                    times[method].append(1000 * (time.perf_counter() - began) / batch_size)
    return {method: statistics.median(values) for method, values in times.items()}


def table(results, sizes, latencies):
    """The comparison as aligned text."""
    metrics = [name for name in METRIC_NAMES if any(row.get(name) for row in results.values())]
    task = next(iter(results.values()))["task"]
    header = [task, *metrics, "parameters", "ms, alone", "ms, batched", "seconds"]
    lines = [header]
    for method, row in results.items():
        scores = [f"{float(row[name]):.3f}" if row[name] else "" for name in metrics]
        times = [f"{value:.3f}" for value in latencies[method]]
        lines.append([method, *scores, f"{sizes[method]:,}", *times, row["seconds"]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"{line[0]:{widths[0]}}  " + "  ".join(map(str.rjust, line[1:], widths[1:])) for line in lines)


def draw(results, curves, path):
    """Write the figure: the main dev metric as bars, and each loss over the training steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from fsd.report.style import COLORS

    trained = [loss for loss in PANELS if any(loss in losses for losses in curves.values())]
    rows = 1 + len(trained) // 3
    figure, axes = pyplot.subplots(rows, 3, figsize=(13, 3.2 * rows), layout="constrained", squeeze=False)
    draw_scores(axes.flat[0], results)
    for panel, loss in zip(axes.flat[1:], trained, strict=False):
        for method, losses in curves.items():
            if loss in losses:
                panel.plot(losses[loss].keys(), losses[loss].values(), color=COLORS[method], linewidth=1.6, label=method)
        panel.set(title=PANELS[loss], xlabel="step")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize=7, ncols=1 + len(panel.lines) // 7)
    for panel in axes.flat[1 + len(trained) :]:
        panel.remove()
    for panel in axes.flat[: 1 + len(trained)]:
        panel.spines[["top", "right"]].set_visible(False)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)


def draw_scores(panel, results):
    """Bars of the task's main dev metric, with a dashed line at the teacher's."""
    from fsd.glue.metrics import main_metric
    from fsd.report.style import COLORS

    task = find_task(next(iter(results.values()))["task"])
    name = main_metric(task)
    scores = {method: float(row[name]) for method, row in results.items() if row[name]}
    bars = panel.bar(list(scores), list(scores.values()), color=[COLORS[method] for method in scores])
    panel.bar_label(bars, fmt="%.3f", padding=2, fontsize=8)
    if "teacher" in scores:
        panel.axhline(scores["teacher"], color=COLORS["teacher"], linestyle="--", linewidth=1)
    panel.set(title=f"{task.name}: {name} on dev", ylim=(min([0.0, *scores.values()]), 1.05))
    panel.tick_params(axis="x", labelsize=8, length=0)
    for label in panel.get_xticklabels():
        label.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")


if __name__ == "__main__":
    exit_on_input_error(main)
