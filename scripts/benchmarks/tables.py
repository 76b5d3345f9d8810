"""The tables of steps: methods and options, their growth with the sizes, and the student's inference."""

import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from fsd.system.errors import InputError

from benchmarks.timing import ceiling, measure_blocks, print_table, quartiles
from benchmarks.training import LENGTHS, METHODS, Bench, Size, options_text

TABLE_8 = ("KD", "PKD", "RKD", "FSD_ILG")
EVERYTHING = ("--mask_padding", "--group_by_length", "--bf16", "--cache_teacher", "ram")
FORMS = (("--debiased",), ("--similarity", "procrustes"), ("--similarity", "gram"), ("--normalize_distances",),
         ("--memory_learning_rate", "1e-3"))
LOGGED_EVERY = 50  # steps: the default of --logging_steps


def sizes(names, pairs, steps, batch_size, device):
    """[(size, pairs, steps per block)] for the names in --sizes; fewer pairs and steps for BERT-base on a CPU."""
    on_gpu = device.type == "cuda"
    chosen = []
    if "small" in names:
        chosen.append((Size("small", 256, 4, 32), pairs, steps))
    if "base" in names:
        few = (pairs, steps) if on_gpu else (min(pairs, 5), min(steps, 4))
        chosen.append((Size("BERT-base", 768, 12, 32 if on_gpu else 8), *few))
    return [(replace(size, batch_size=batch_size or size.batch_size), *rest) for size, *rest in chosen]


def method_rows(compiles, on_gpu):
    """(method, flags, task of the lengths) of the rows of the methods table."""
    rows = [(method, (), "CoLA") for method in METHODS]
    rows.insert(list(METHODS).index("FSD_I") + 1, ("FSD_I", ("--log_relations",), "CoLA"))  # measured beside its plain row
    options = [("--bf16",), ("--cache_teacher", "ram")]
    options += [("--fp16",)] if on_gpu else []  # on a CPU it is seven times slower than float32
    options += [("--compile",), ("--bf16", "--compile")] if compiles else []
    rows += [("FSD_ILG", flags, "CoLA") for flags in (*FORMS, *options, ("--mask_padding",))]
    rows += [("FSD_ILG", ("--mask_padding", "--group_by_length"), lengths) for lengths in LENGTHS]
    rows += [("FSD_ILG", flags, "CoLA") for flags in (EVERYTHING, (*EVERYTHING, "--compile"))[: 1 + compiles]]
    return rows


def measure_methods(sizes, device, only=""):
    """Table: each method, FSD_I with --log_relations, FSD_ILG with each form and speed option. ``only``: text of a row."""
    rows = []
    for size, pairs, steps in sizes:
        on_gpu = device.type == "cuda"
        wanted = [row for row in method_rows(size.name == "small" or on_gpu, on_gpu)
                  if only in f"{row[0]} {options_text(*row[1:])}"]
        if not wanted:
            raise InputError(f"--only {only}: no row of the methods table has this text; name a method or an option")
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(size, device, steps, Path(folder))
            bare, contenders = bench.bare(), [bench.ours(method, *flags, lengths=lengths) for method, flags, lengths in wanted]
            measure_blocks(bare, contenders, steps, pairs, device)
        rows += report_steps(size, bare, contenders, pairs, steps, device)
    return rows


def measure_inference(sizes, device):
    """Table: a batch of the evaluation of each student of the paper's Table 8, against KD's. They are the same network."""
    rows = []
    for size, pairs, steps in sizes:
        batches = max(steps, 20)  # they are short beside steps of training
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(size, device, batches, Path(folder))
        first, *others = [bench.inference(method) for method in TABLE_8]
        measure_blocks(first, others, batches, pairs, device)
        for contender in (first, *others):
            ratio = ratio_quartiles(contender)
            rows.append({"size": size.describe(), "method": contender.method, "ms": 1000 * statistics.median(contender.seconds),
                         "ratio": ratio[1], "ratio_quartiles": [ratio[0], ratio[2]]})
        print(f"\n**{size.describe()}**; {pairs} pairs of {batches} batches in evaluation\n")
        print_table(["student of", "ms a batch", "ratio to KD's (quartiles)"],
                    [[row["method"], f"{row['ms']:.3g}", ratio_text(row)] for row in rows[-len(TABLE_8):]])
    return rows


def measure_growth(pairs, steps, device):
    """Table: KD and FSD_ILG at other batch sizes, lengths, centroids and widths."""
    middle = Size("small", 256, 4, 32)
    axes = {"batch_size": (8, 16, 64), "length": (32, 64, 256), "centroids": (30, 300, 1000), "hidden_size": (128, 512)}
    varied = [middle] + [replace(middle, **{axis: value}) for axis, values in axes.items() for value in values]
    rows, pairs, steps = [], min(pairs, 3), min(steps, 6)
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
        ratio = ratio_quartiles(c)
        own = plain.get(c.method) if c.options else None
        to_own = statistics.median(s / o for s, o in zip(c.seconds, own.seconds, strict=True)) if own else None
        seconds = statistics.median(c.seconds)
        rows.append({
            "size": size.describe(), "method": c.method, "options": c.options, "ms": 1000 * seconds,
            "examples_per_second": size.batch_size / seconds, "peak_mb": c.peak_bytes / 1e6, "ratio": ratio[1],
            "ratio_quartiles": [ratio[0], ratio[2]], "ratio_to_plain": to_own,
            "share_of_ceiling": c.flops / seconds / ceilings[c.precision],
        })
        if to_own and "--log_relations" in c.options:  # a block logs at its first and its last step
            rows[-1]["ratio_to_plain_at_50"] = 1 + (to_own - 1) * steps / min(steps, 2) / LOGGED_EVERY
    print(f"\n**{size.describe()}**; {pairs} pairs of {steps} steps; ceiling "
          + ", ".join(f"{name} {value / 1e12:.3g} TFLOP/s" for name, value in sorted(ceilings.items())) + "\n")
    print_table(
        ["method", "options", "ms a step", "examples/s", "peak MB", "ratio to bare (quartiles)", "to itself without options",
         "of ceiling"],
        [[r["method"], r["options"], f"{r['ms']:.3g}", f"{r['examples_per_second']:.4g}", f"{r['peak_mb']:.0f}",
          ratio_text(r), f"{r['ratio_to_plain']:.3f}" if r["ratio_to_plain"] else "", f"{r['share_of_ceiling']:.0%}"]
         for r in rows],
    )
    for row in rows:
        if "ratio_to_plain_at_50" in row:
            print(f"\n{row['method']} {row['options']}, logged every {LOGGED_EVERY} steps: on average "
                  f"{row['ratio_to_plain_at_50']:.4f} of a step without", flush=True)
    return rows


def ratio_quartiles(contender):
    """Quartiles of the ratios of a contender's blocks to those of the one that it takes turns with; 1 for that one itself."""
    return quartiles([s / b for s, b in zip(contender.seconds, contender.bare_seconds or contender.seconds, strict=True)])


def ratio_text(row):
    """A row's ratio and its quartiles."""
    return f"{row['ratio']:.3f} ({row['ratio_quartiles'][0]:.3f}–{row['ratio_quartiles'][1]:.3f})"
