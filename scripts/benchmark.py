"""Measure the cost of structure distillation, relative to a minimal distillation loop and to a plain teacher forward.

    python scripts/benchmark.py --output benchmark.json                       all tables; about an hour and a half on 2 cores
    python scripts/benchmark.py --tables methods --sizes small --pairs 3      one table, faster

Each ratio compares blocks of steps that alternate in one process, so that a slow phase of the machine affects both sides.
Models and tokens are random; lengths are distributed as in the official training files. Prints Markdown.

    methods   our training loop with each method and each speed option, against the minimal loop
    growth    the same for KD and FSD_ILG at other batch sizes, lengths, centroids and widths
    memory    the passes and the whole build of the teacher memory, against one teacher forward over the same data
    large     the build of a teacher memory on synthetic features of MNLI's size at BERT-base, or on fewer if time is short
"""

import fsd.cli.early_signals  # noqa: F401

import contextlib
import copy
import ctypes
import io
import math
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from fsd.cli.arguments import add_distillation_arguments, add_hardware_arguments, add_structure_arguments
from fsd.cli.parser import Parser, number
from fsd.glue.tasks import find_task
from fsd.system.errors import InputError, exit_on_input_error
from fsd.system.files import write_json

TABLES = ("methods", "growth", "memory", "large")
# Quantiles of the official training files' lengths in WordPiece tokens, cut to 128.
QUANTILES = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1)
LENGTHS = {
    "CoLA": (4, 5, 6, 7, 8, 9, 10, 10, 11, 12, 14, 17, 20, 25, 32, 47),
    "RTE": (13, 21, 29, 33, 40, 45, 50, 56, 62, 72, 103, 128, 128, 128, 128, 128),
}
METHODS = {
    "KD": {}, "FSD_I": {"gamma_i": 1.0}, "FSD_L": {"gamma_l": 1.0}, "FSD_G": {"gamma_g": 1.0},
    "FSD_IL": {"gamma_i": 1.0, "gamma_l": 1.0}, "FSD_ILG": {"gamma_i": 1.0, "gamma_l": 1.0, "gamma_g": 1.0},
}
MNLI_EXAMPLES, MNLI_CENTROIDS, BASE_FEATURES = 392_702, 300, 128 * 768


@dataclass(frozen=True)
class Size:
    """The sizes of one measurement."""

    name: str
    hidden_size: int
    teacher_layers: int
    batch_size: int
    length: int = 128
    centroids: int = 100

    def describe(self):
        """The heading of this size's tables."""
        return (f"{self.name}: width {self.hidden_size}, {self.teacher_layers}→{self.teacher_layers // 2} layers, "
                f"B {self.batch_size}, S {self.length}, K {self.centroids}")


@dataclass
class Contender:
    """A method with options, and the seconds of each of its blocks."""

    method: str
    options: str
    steps: object  # a function that trains for that many steps
    flops: float  # of the models' matrix products, per step
    precision: str = "float32"
    seconds: list = field(default_factory=list)
    bare_seconds: list = field(default_factory=list)
    peak_bytes: int = 0


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

    device = pick_device(args.no_cuda)
    figures = {"date": time.strftime("%Y-%m-%d"), "device": describe_device(device), **versions(), "tables": {}}
    print(f"{figures['date']}, {figures['device']}, torch {figures['torch']}, transformers {figures['transformers']}, "
          f"commit {figures['commit']}\n", flush=True)
    measure = {"methods": measure_methods, "growth": measure_growth, "memory": measure_memory, "large": measure_large}
    for name in args.tables:
        figures["tables"][name] = measure[name](args, device)
        if args.output:
            write_json(args.output, figures)


# ---------------------------------------------------------------- steps


def bare_kd(teacher, student, data, batch_size, steps):
    """The minimal distillation loop that every ratio divides by."""
    import torch
    from torch.nn import functional as F

    input_ids, labels = data.input_ids.long(), data.labels
    token_type_ids = data.token_type_ids.long()
    attention_mask = (torch.arange(input_ids.shape[1]) < data.lengths[:, None]).long().to(input_ids.device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-5, fused=True)
    student.train()
    for rows in torch.randperm(len(labels)).to(input_ids.device).split(batch_size)[:steps]:
        batch = {
            "input_ids": input_ids[rows], "attention_mask": attention_mask[rows], "token_type_ids": token_type_ids[rows],
        }
        with torch.no_grad():
            teacher_logits = teacher(**batch).logits
        student_logits = student(**batch).logits
        dark_knowledge = F.kl_div(
            F.log_softmax(student_logits / 5, dim=-1), F.log_softmax(teacher_logits / 5, dim=-1),
            reduction="batchmean", log_target=True,
        )
        loss = 0.5 * F.cross_entropy(student_logits, labels[rows]) + 0.5 * 25 * dark_knowledge
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


class Bench:
    """Teacher, student and data of one size, and our training loop over them."""

    def __init__(self, size, device, steps, folder):
        from transformers import BertConfig

        from fsd.models.loading import freeze
        from fsd.models.student import new_bert

        self.size, self.device, self.steps, self.folder = size, device, steps, folder
        config = BertConfig(
            hidden_size=size.hidden_size, num_hidden_layers=size.teacher_layers, num_attention_heads=size.hidden_size // 64,
            intermediate_size=4 * size.hidden_size, num_labels=2, max_position_embeddings=max(512, size.length),
        )
        self.teacher = freeze(new_bert(config, 0)).to(device)
        config.num_hidden_layers //= 2
        self.student = new_bert(config, 1).to(device)
        self.examples = max(steps, 50) * size.batch_size
        self.data = {task: self.dataset(quantiles).to(device) for task, quantiles in LENGTHS.items()}

    def dataset(self, quantiles):
        """Random tokens with the length distribution of a task."""
        import numpy as np
        import torch

        from fsd.glue.dataset import EncodedDataset

        generator = torch.Generator().manual_seed(0)
        places = (np.arange(self.examples) + 0.5) / self.examples
        lengths = torch.from_numpy(np.interp(places, QUANTILES, quantiles).round()).long().clamp(max=self.size.length)
        lengths = lengths[torch.randperm(self.examples, generator=generator)]
        input_ids = torch.randint(1000, 30000, (self.examples, self.size.length), generator=generator, dtype=torch.int32)
        input_ids[torch.arange(self.size.length) >= lengths[:, None]] = 0
        labels = torch.randint(2, (self.examples,), generator=generator)
        return EncodedDataset(input_ids, torch.zeros_like(input_ids, dtype=torch.uint8), lengths, labels, None, "train", "")

    def bare(self):
        """The minimal loop as a contender."""
        batches = [(self.size.batch_size, self.size.length)]
        return Contender(
            "bare KD loop", "", lambda steps: bare_kd(self.teacher, self.student, self.data["CoLA"], self.size.batch_size, steps),
            self.flops(batches, cached=False),
        )

    def ours(self, method, *flags, lengths="CoLA"):
        """Our training loop as a contender, with a method of ``METHODS`` and command-line flags."""
        from fsd.cli.experiment import training_settings
        from fsd.memory.student_memory import StudentMemory
        from fsd.method.global_structure import memory_products
        from fsd.method.objective import Objective, layer_pairs
        from fsd.records.tracking import Tracker
        from fsd.training.loop import train
        from fsd.training.run import Run
        from fsd.training.teacher_cache import TeacherCache

        size, data = self.size, self.data[lengths]
        parser = Parser("")
        add_structure_arguments(parser)
        add_distillation_arguments(parser)
        args = parser.parse_args([
            "--task_name", "CoLA", "--data_dir", ".", "--output_dir", str(self.folder), "--per_gpu_train_batch_size",
            str(size.batch_size), "--max_seq_length", str(size.length), "--save_steps", str(10**9), *flags,
        ])
        settings = training_settings(args)
        pair = layer_pairs(size.teacher_layers, size.teacher_layers // 2)[0]
        objective = Objective(0.5, 5.0, 1.0, gamma_m=1e-4, pairs=(pair,), default_pair=pair, **METHODS[method])
        student_memory = teacher_memory = cache = None
        if objective.needs_memory:
            memories = [StudentMemory(size.centroids, size.length, size.hidden_size, seed).to(self.device) for seed in (0, 1)]
            student_memory, teacher_memory = memories[0], memory_products(memories[1].centroids.detach())
        if args.cache_teacher:
            layers = [teacher for teacher, _ in objective.compared_pairs]
            cache = TeacherCache("ram", self.teacher, "", data, layers, args.mask_padding, settings.precision)
            with contextlib.redirect_stderr(io.StringIO()):
                cache.fill()
        run = Run(find_task("CoLA"), objective, settings, self.folder, self.device, None, self.student, data, [], self.teacher,
                  student_memory, teacher_memory, cache)
        tracker = Tracker(self.folder, "benchmark")
        seed = min(range(100), key=lambda seed: self.bias(with_settings(run, seed=seed)))
        batches = [(len(batch), self.cut(run, batch)) for update in with_settings(run, seed=seed).update_batches(0)
                   for batch in update]

        def steps(count):
            with contextlib.redirect_stderr(io.StringIO()):  # hides the log
                train(with_settings(run, seed=seed, max_steps=count), tracker)

        options = " ".join(flag for flag in flags if flag != "ram")
        options += f" ({lengths}'s lengths)" if args.mask_padding else ""
        precision = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
        return Contender(method, options, steps, self.flops(batches, args.cache_teacher), precision)

    def bias(self, run):
        """The difference in mean length between the batches of a block and all batches."""
        longest = [run.train_set.lengths[batch].max().item() for update in run.update_batches(0) for batch in update]
        return abs(statistics.fmean(longest[: self.steps]) - statistics.fmean(longest))

    def cut(self, run, indices):
        """The length of a batch after cutting."""
        batch = run.train_set.batch(indices, run.settings.mask_padding, run.settings.length_buckets)
        return batch["input_ids"].shape[1]

    def flops(self, batches, cached):
        """Floating-point operations of the models' matrix products in an average step over [(examples, length)].

        A layer's forward takes 24 d² + 4 S d per token, its backward twice that. Softmax, LayerNorm, losses and the
        optimizer are not counted.
        """
        d, depth = self.size.hidden_size, self.size.teacher_layers
        passes = (0 if cached else depth) + 3 * (depth // 2)
        return statistics.fmean(examples * length * (24 * d * d + 4 * length * d) * passes for examples, length in batches)


def with_settings(run, **changes):
    """The run with other settings."""
    return replace(run, settings=replace(run.settings, **changes))


def measure_blocks(bare, contenders, steps, pairs, device):
    """Time blocks of ``steps`` steps: two contenders, the minimal loop, two contenders, and so on."""
    from tqdm import tqdm

    for contender in (bare, *contenders):
        timed(contender, steps if "--compile" in contender.options else 2, device)
    for turn in tqdm(range(pairs), desc=f"{len(contenders)} contenders, rounds"):
        order = contenders if turn % 2 else contenders[::-1]
        for start in range(0, len(order), 4):
            two, two_more = order[start : start + 2], order[start + 2 : start + 4]
            for contender in two:
                contender.seconds.append(timed(contender, steps, device) / steps)
            bare.seconds.append(timed(bare, steps, device) / steps)
            for contender in two_more:
                contender.seconds.append(timed(contender, steps, device) / steps)
            for contender in (*two, *two_more):
                contender.bare_seconds.append(bare.seconds[-1])


def timed(contender, steps, device):
    """Seconds of a block; records the contender's highest RAM use above the level before a block."""
    with PeakMemory(device) as peak:
        synchronize(device)
        start = time.perf_counter()
        contender.steps(steps)
        synchronize(device)
        seconds = time.perf_counter() - start
    contender.peak_bytes = max(contender.peak_bytes, peak.bytes)
    return seconds


def synchronize(device):
    """Wait for the GPU; does nothing on a CPU."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PeakMemory:
    """Context that measures, in ``bytes``, the peak RAM (of the GPU or the process) above the level at its start."""

    def __init__(self, device):
        self.device, self.bytes = device, 0

    def __enter__(self):
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            ctypes.CDLL(None).malloc_trim(0)  # returns RAM that earlier blocks freed
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak
            self.before = self._status("VmRSS")
        return self

    def __exit__(self, *error):
        import torch

        on_gpu = self.device.type == "cuda"
        self.bytes = (torch.cuda.max_memory_allocated(self.device) if on_gpu else self._status("VmHWM")) - self.before

    @staticmethod
    def _status(name):
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024


def ceiling(device, precision):
    """Floating-point operations per second of a large matrix product, best of eight."""
    import torch

    n, best = 8192 if device.type == "cuda" else 3072, math.inf
    x, y = (torch.randn(n, n, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    for _ in range(8):
        synchronize(device)
        start = time.perf_counter()
        x @ y
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def sizes(args, device):
    """[(size, pairs, steps per block)] for --sizes; fewer pairs and steps for BERT-base on a CPU."""
    on_gpu = device.type == "cuda"
    chosen = []
    if "small" in args.sizes:
        chosen.append((Size("small", 256, 4, 32), args.pairs, args.steps))
    if "base" in args.sizes:
        few = (args.pairs, args.steps) if on_gpu else (min(args.pairs, 5), min(args.steps, 4))
        chosen.append((Size("BERT-base", 768, 12, 32 if on_gpu else 8), *few))
    return [(replace(size, batch_size=args.batch_size or size.batch_size), *rest) for size, *rest in chosen]


def measure_methods(args, device):
    """Table: each method, and FSD_ILG with each speed option."""
    rows = []
    for size, pairs, steps in sizes(args, device):
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(size, device, steps, Path(folder))
            bare, contenders = bench.bare(), [bench.ours(method) for method in METHODS]
            contenders += [bench.ours("FSD_ILG", *flags) for flags in (["--bf16"], ["--cache_teacher", "ram"])]
            everything = ["--mask_padding", "--group_by_length", "--bf16", "--cache_teacher", "ram"]
            compiles = size.name == "small" or device.type == "cuda"
            if device.type == "cuda":
                contenders.append(bench.ours("FSD_ILG", "--fp16"))  # on a CPU it is seven times slower than float32
            if compiles:
                contenders += [bench.ours("FSD_ILG", "--compile"), bench.ours("FSD_ILG", "--bf16", "--compile")]
            contenders += [bench.ours("FSD_ILG", "--mask_padding")]
            for lengths in LENGTHS:
                contenders.append(bench.ours("FSD_ILG", "--mask_padding", "--group_by_length", lengths=lengths))
            contenders.append(bench.ours("FSD_ILG", *everything))
            if compiles:
                contenders.append(bench.ours("FSD_ILG", *everything, "--compile"))
            contenders = [c for c in contenders if args.only in f"{c.method} {c.options}"]
            measure_blocks(bare, contenders, steps, pairs, device)
        rows += report_steps(size, bare, contenders, pairs, steps, device)
    return rows


def measure_growth(args, device):
    """Table: KD and FSD_ILG at other batch sizes, lengths, centroids and widths."""
    middle = Size("small", 256, 4, 32)
    axes = {"batch_size": (8, 16, 64), "length": (32, 64, 256), "centroids": (30, 300, 1000), "hidden_size": (128, 512)}
    varied = [middle] + [replace(middle, **{axis: value}) for axis, values in axes.items() for value in values]
    rows, pairs, steps = [], min(args.pairs, 3), min(args.steps, 6)
    for size in varied:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(size, device, steps, Path(folder))
            bare, contenders = bench.bare(), [bench.ours("KD"), bench.ours("FSD_ILG")]
            measure_blocks(bare, contenders, steps, pairs, device)
        rows += report_steps(size, bare, contenders, pairs, steps, device)
    return rows


def report_steps(size, bare, contenders, pairs, steps, device):
    """Print the rows of one size and return them as dicts."""
    ceilings = {precision: ceiling(device, precision) for precision in {c.precision for c in (bare, *contenders)}}
    plain = {c.method: c for c in contenders if not c.options}
    rows = []
    for c in (bare, *contenders):
        ratio = quartiles([s / b for s, b in zip(c.seconds, c.bare_seconds or c.seconds, strict=True)])
        own = plain.get(c.method) if c.options else None
        to_own = statistics.median(s / o for s, o in zip(c.seconds, own.seconds, strict=True)) if own else None
        seconds = statistics.median(c.seconds)
        rows.append({
            "size": size.describe(), "method": c.method, "options": c.options, "ms": 1000 * seconds,
            "examples_per_second": size.batch_size / seconds, "peak_mb": c.peak_bytes / 1e6, "ratio": ratio[1],
            "ratio_quartiles": [ratio[0], ratio[2]], "ratio_to_plain": to_own,
            "share_of_ceiling": c.flops / seconds / ceilings[c.precision],
        })
    print(f"\n**{size.describe()}**; {pairs} pairs of {steps} steps; ceiling "
          + ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in sorted(ceilings.items())) + "\n")
    print_table(
        ["method", "options", "ms a step", "examples/s", "peak MB", "ratio to bare (quartiles)", "to itself without options",
         "of ceiling"],
        [[r["method"], r["options"], f"{r['ms']:.3g}", f"{r['examples_per_second']:.4g}", f"{r['peak_mb']:.0f}",
          f"{r['ratio']:.3f} ({r['ratio_quartiles'][0]:.3f}–{r['ratio_quartiles'][1]:.3f})",
          f"{r['ratio_to_plain']:.3f}" if r["ratio_to_plain"] else "", f"{r['share_of_ceiling']:.0%}"] for r in rows],
    )
    return rows


def quartiles(values):
    """Lower quartile, median, upper quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")


def print_table(header, rows):
    """Print a Markdown table."""
    for line in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(line)} |", flush=True)


# ---------------------------------------------------------------- memory


def measure_memory(args, device):
    """Table: the passes and the whole build of the teacher memory, with and without a feature cache, against one forward."""
    import torch

    from fsd.memory.clustering_plan import Plan
    from fsd.memory.streaming_kmeans import cluster
    from fsd.training.teacher_features import TeacherFeatures

    rows = []
    for size, _, _ in sizes(args, device):
        quick = size.name == "small" or device.type == "cuda"
        rounds, batches = (5 if quick else 3), (80 if quick else 32)
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(size, device, batches, Path(folder))
        data = bench.data["CoLA"].subset(torch.arange(batches * size.batch_size))
        width = size.length * size.hidden_size

        encoder = copy.deepcopy(bench.teacher.bert)
        encoder.encoder.layer = encoder.encoder.layer[: size.teacher_layers - 1]  # as train_memory.py does

        def forward_once(teacher=bench.teacher, data=data, size=size):
            with torch.no_grad():
                for indices in torch.arange(len(data)).split(size.batch_size):
                    batch = data.batch(indices)
                    batch.pop("labels")
                    teacher(**batch)

        def build(cache_bytes, encoder=encoder, data=data, size=size, width=width):
            features = TeacherFeatures(encoder, data, size.batch_size, False, None, 10**9)
            plan = Plan(len(data), width, size.centroids, 3, cache_bytes)
            with contextlib.redirect_stderr(io.StringIO()):
                return cluster(features.batches, plan, seed=0, device=device, tolerance=0).history

        times = {"pass 1": [], "pass 2": [], "pass 3": [], "whole build": [], "whole build, features kept": []}
        for turn in range(-1, rounds):  # the first is a warm-up
            bare = seconds_of(forward_once, device)[0]
            kept = seconds_of(lambda build=build: build(math.inf), device)[0]
            whole, history = seconds_of(lambda build=build: build(0), device)
            bare = (bare + seconds_of(forward_once, device)[0]) / 2
            if turn >= 0:
                values = [*(report.seconds for report in history), whole, kept]
                for name, value in zip(times, values, strict=True):
                    times[name].append(value / bare)
        print(f"\n**{size.describe()}**; {len(data)} examples; {rounds} rounds; bare teacher forward: {bare:.1f} s\n")
        ratios = {name: quartiles(values) for name, values in times.items()}
        print_table(["", "ratio to one bare teacher forward (quartiles)"],
                    [[name, f"{middle:.3f} ({low:.3f}–{high:.3f})"] for name, (low, middle, high) in ratios.items()])
        rows.append({"size": size.describe(), "examples": len(data), "ratios": ratios})
    return rows


def seconds_of(function, device):
    """(seconds, result) of calling ``function``."""
    synchronize(device)
    start = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - start, result


def measure_large(args, device):
    """Print the plan for MNLI at BERT-base, then the time and RAM of a build at that width."""
    import torch

    from fsd.memory.clustering_plan import Plan
    from fsd.memory.streaming_kmeans import cluster

    print(f"\n**MNLI's sizes**: {Plan(MNLI_EXAMPLES, BASE_FEATURES, MNLI_CENTROIDS).describe()}\n", flush=True)
    generator = torch.Generator(device).manual_seed(0)
    centers = torch.randn(MNLI_CENTROIDS, BASE_FEATURES, generator=generator, device=device)
    noise = torch.randn(64, BASE_FEATURES, generator=generator, device=device)

    def batches(count):
        """Batches of examples around the centers. The noise is drawn only once, because drawing it takes longer than a pass."""
        for start in range(0, count, 32):
            rows = torch.arange(start, min(start + 32, count), device=device)
            yield start, centers[(rows * 7919) % MNLI_CENTROIDS] + noise[(rows * 104729) % 64]

    seconds, _ = seconds_of(lambda: sum(len(features) for _, features in batches(3200)), device)
    generating = seconds / 3200
    trial = Plan(3200, BASE_FEATURES, MNLI_CENTROIDS, 3, 0)
    with contextlib.redirect_stderr(io.StringIO()):
        seconds, _ = seconds_of(lambda: cluster(lambda: batches(3200), trial, seed=0, device=device), device)
    count = min(MNLI_EXAMPLES, max(3200, int(0.7 * (60 * args.minutes - seconds) / seconds * 3200)))
    plan = Plan(count, BASE_FEATURES, MNLI_CENTROIDS, 3, 0)
    print(f"built: {plan.describe()}", flush=True)
    with PeakMemory(device) as peak:
        seconds, clustering = seconds_of(
            lambda: cluster(lambda: batches(count), plan, seed=0, device=device, log=lambda report: print(report.describe())),
            device,
        )
    clustering_seconds = seconds - sum(report.seconds for report in clustering.history)
    print(f"{count:,} examples: {seconds:.0f} s, of which features {3 * generating * count:.0f} s; peak RAM "
          f"{peak.bytes / 1e9:.2f} GB, planned {plan.peak_bytes / 1e9:.2f} GB; clusters of {int(clustering.counts.min())} to "
          f"{int(clustering.counts.max())} examples")
    return [{"examples": count, "seconds": seconds, "peak_bytes": peak.bytes, "planned_bytes": plan.peak_bytes,
             "rest_seconds": clustering_seconds, "passes": [report.describe() for report in clustering.history]}]


if __name__ == "__main__":
    exit_on_input_error(main)
