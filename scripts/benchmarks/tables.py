"""The tables of steps: methods and options, their growth with the sizes, and the student's inference."""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from fsd.system.errors import InputError

from benchmarks.peers import textbrewer
from benchmarks.results import COLUMNS, print_rows
from benchmarks.timing import ceiling, free_memory, measure_blocks, quartiles
from benchmarks.training import METHODS, PACKED, Bench, Size, options_text

TABLE_8 = ("KD", "PKD", "RKD", "FSD_ILG")
EVERYTHING = ("--mask_padding", "--group_by_length", "--bf16", "--cache_teacher", "ram")
GRAPHS, COMPILED = ("--cuda_graphs",), ("--bf16", "--compile")
BUT_BESIDE = [name for name in COLUMNS if name not in ("size", "beside")]
FORMS = (("--debiased",), ("--similarity", "procrustes"), ("--similarity", "gram"), ("--normalize_distances",),
         ("--memory_learning_rate", "1e-3"))
LOGGED_EVERY = 50  # steps: the default of --logging_steps


def sizes(names, pairs, steps, batch_size, device):
    """[(size, pairs, steps per block)] for the names in --sizes; fewer pairs and steps for BERT-base on a CPU.

    None for ``pairs`` or ``steps`` means the usual number. On a GPU the usual steps are None, see ``measure_blocks``.
    """
    on_gpu = device.type == "cuda"
    pairs, steps = pairs or (5 if on_gpu else 9), steps or (None if on_gpu else 20)
    chosen = []
    if "small" in names:
        chosen.append((Size("small", 256, 4, 32), pairs, steps))
    if "base" in names:
        few = (pairs, steps) if on_gpu else (min(pairs, 5), min(steps, 4))
        chosen.append((Size("BERT-base", 768, 12, 32 if on_gpu else 8), *few))
    return [(replace(size, batch_size=batch_size or size.batch_size), *rest) for size, *rest in chosen]


def sections(size, on_gpu):
    """[(size, rows)]: the parts of the methods table. The rows of a part take turns with the minimal loop in its precision.

    On a GPU each precision is a part of its own, and BERT-base has a large batch, too, without float32. Only two methods are
    replayed as CUDA graphs, or compiled, and those last, because that takes half a minute each.
    """
    plain = method_rows(size.name == "small")
    if not on_gpu:
        return [(size, plain)]
    float32 = [row for row in plain if row[1] in ((), ("--log_relations",))]
    bf16 = [(method, ("--bf16", *flags), "CoLA") for method, flags, _ in float32]
    packed = [("FSD_ILG", ("--bf16", "--mask_padding", *graphs), lengths) for lengths in PACKED for graphs in ((), GRAPHS)]
    replayed, replayed_bf16, compiled = (
        [(method, (*flags, *GRAPHS), "CoLA") for method in ("KD", "FSD_ILG")] for flags in ((), ("--bf16",), COMPILED)
    )
    compiled = [row for method, flags, lengths in compiled for row in ((method, COMPILED, lengths), (method, flags, lengths))]
    float32, bf16 = [*float32, *replayed], [*bf16, *replayed_bf16]
    if size.name != "BERT-base":
        return [(size, float32), (size, [*bf16, *packed]), (size, compiled)]
    large = replace(size, batch_size=8 * size.batch_size)
    return [(size, float32), (size, [*bf16, *packed]), (large, bf16), (size, compiled), (large, compiled)]


def method_rows(compiles):
    """(method, flags, task of the lengths) of the rows of the methods table on a CPU."""
    rows = [(method, (), "CoLA") for method in METHODS]
    rows.insert(list(METHODS).index("FSD_I") + 1, ("FSD_I", ("--log_relations",), "CoLA"))  # measured beside its plain row
    options = [("--bf16",), ("--cache_teacher", "ram")]  # not --fp16, which on a CPU is seven times slower than float32
    options += [("--compile",), ("--bf16", "--compile")] if compiles else []
    rows += [("FSD_ILG", flags, "CoLA") for flags in (*FORMS, *options)]
    rows += [("FSD_ILG", ("--mask_padding", *flags), lengths) for lengths in PACKED for flags in ((), ("--group_by_length",))]
    rows += [("FSD_ILG", flags, "CoLA") for flags in (EVERYTHING, (*EVERYTHING, "--compile"))[: 1 + compiles]]
    return rows


def measure_methods(sizes, device, only="", peers=False):
    """Yield the rows of each part of the table: each method, and FSD_ILG with each form and speed option.

    ``only``: text of a row. ``peers``: measure TextBrewer beside the parts in float32, too.
    """
    found = False
    for size, pairs, steps in sizes:
        for part, rows in sections(size, device.type == "cuda"):
            wanted = [row for row in rows if only in f"{row[0]} {options_text(*row[1:])}"]
            if wanted:
                found = True
                yield measure_part(part, wanted, pairs, steps, device, peers)
                if any("--compile" in flags for _, flags, _ in wanted):
                    torch.compiler.reset()  # compiled functions hold tensors, and each may be compiled for a few shapes only
                free_memory(device)
    if not found:
        raise InputError(f"--only {only}: no row of the methods table has this text; name a method or an option")


def measure_part(size, wanted, pairs, steps, device, peers=False):
    """The rows of one part of the methods table."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(size, device, steps, Path(folder))
        bf16 = device.type == "cuda" and "--bf16" in wanted[0][1]
        bare, peer = bench.bare(bf16), textbrewer(bench) if peers and not bf16 else None
        contenders = [*filter(None, [peer]), *(bench.ours(method, *flags, lengths=lengths) for method, flags, lengths in wanted)]
        measured, steps = measure_blocks(bare, contenders, steps, pairs, device)
    return report_steps(size, measured, pairs, steps, device)


def measure_inference(sizes, device):
    """Yield rows: a batch of the evaluation of each student of the paper's Table 8, against KD's. They are the same network."""
    for size, pairs, steps in sizes:
        batches = max(steps or 0, 20)  # they are short beside steps of training
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(size, device, batches, Path(folder))
        first, *others = [bench.inference(method) for method in TABLE_8]
        yield rows_beside(size, first, others, batches, pairs, device)


def measure_evaluation(sizes, device):
    """Yield rows: our evaluation in float32, beside a bare forward pass over batches of sorted lengths."""
    for size, pairs, steps in sizes:
        batches = max(steps or 0, 50)  # about the examples of a dev set
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(size, device, batches, Path(folder))
        rows = []
        for lengths in ("CoLA", "MNLI"):
            rows += rows_beside(size, *bench.evaluations(lengths), batches, pairs, device)
        yield rows


def rows_beside(size, first, others, steps, pairs, device, what="batches in evaluation; a step is a batch"):
    """Measure contenders against the first one, print their rows and return them."""
    measured, _ = measure_blocks(first, others, steps, pairs, device)
    rows = []
    for contender in measured:
        low, middle, high = ratio_quartiles(contender)
        rows.append({"size": size.describe(), "method": contender.method, "options": contender.options,
                     "ms": 1000 * statistics.median(contender.seconds), "ratio": middle, "ratio_quartiles": [low, high],
                     "beside": first.method})
    print(f"\n**{size.describe()}**; {pairs} pairs of {steps} {what}; the ratios are to the first row\n")
    print_rows(rows, BUT_BESIDE)
    return rows


def measure_growth(pairs, steps, device):
    """Yield rows: KD and FSD_ILG at other batch sizes, lengths, centroids and widths."""
    middle = Size("small", 256, 4, 32)
    axes = {"batch_size": (8, 16, 64), "length": (32, 64, 256), "centroids": (30, 300, 1000), "hidden_size": (128, 512)}
    varied = [middle] + [replace(middle, **{axis: value}) for axis, values in axes.items() for value in values]
    for size in varied:
        yield measure_part(size, [("KD", (), "CoLA"), ("FSD_ILG", (), "CoLA")], min(pairs, 3), steps and min(steps, 6), device)


def report_steps(size, measured, pairs, steps, device):
    """Print the rows of one part and return them as dicts."""
    if not measured:
        return []
    ceilings = {precision: ceiling(device, precision) for precision in {c.precision for c in measured}}
    named = {(c.method, c.options): c for c in measured[1:]}
    rows, bare = [], f"{measured[0].method} {measured[0].options}".strip()
    for c in measured:
        low, middle, high = ratio_quartiles(c)
        seconds = statistics.median(c.seconds)
        rows.append({
            "size": size.describe(), "method": c.method, "options": c.options, "ms": 1000 * seconds,
            "examples_per_second": size.batch_size / seconds, "peak_mb": c.peak_bytes / 1e6, "ratio": middle,
            "ratio_quartiles": [low, high], "beside": bare, "ratio_to_kd": ratio_to(c, named.get(("KD", c.options))),
            "ratio_to_plain": ratio_to(c, named.get((c.method, ""))) if c.options else None,
            "ratio_to_grouped": ratio_to(c, named.get((c.method, c.options.replace(" (", " --group_by_length ("))))
            if "--mask_padding (" in c.options else None,
            "ratio_to_peer": ratio_to(c, named.get(("TextBrewer's KD", ""))),
            "share_of_ceiling": c.flops / seconds / ceilings[c.precision],
        })
        without = named.get((c.method, c.options.replace("--log_relations", "").strip()))
        if "--log_relations" in c.options and without:  # a block has one logging step
            rows[-1]["ratio_to_plain_at_50"] = 1 + (ratio_to(c, without) - 1) * steps / LOGGED_EVERY
    print(f"\n**{size.describe()}**; {pairs} pairs of {steps} steps, beside the {bare}; ceiling "
          + ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in sorted(ceilings.items())) + "\n")
    print_rows(rows, BUT_BESIDE)
    for row in rows:
        if "ratio_to_plain_at_50" in row:
            print(f"\n{row['method']} {row['options']}, logged every {LOGGED_EVERY} steps: on average "
                  f"{row['ratio_to_plain_at_50']:.4f} of a step without", flush=True)
    return rows


def ratio_to(contender, other):
    """The median ratio of a contender's blocks to another's of the same rounds; None without another, or for the minimal loop."""
    if other is None or not contender.bare_seconds:
        return None
    return statistics.median(s / o for s, o in zip(contender.seconds, other.seconds, strict=True))


def ratio_quartiles(contender):
    """Quartiles of the ratios of a contender's blocks to those of the one that it takes turns with; 1 for that one itself."""
    return quartiles([s / b for s, b in zip(contender.seconds, contender.bare_seconds or contender.seconds, strict=True)])
