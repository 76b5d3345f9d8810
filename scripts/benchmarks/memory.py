"""The build of the teacher memory: its passes against one teacher forward, and a build of MNLI's size."""

import contextlib
import copy
import io
import math
import tempfile
from pathlib import Path

import torch

from fsd.memory.clustering_plan import Plan
from fsd.memory.streaming_kmeans import cluster
from fsd.training.memory_start import start_from_clusters
from fsd.training.teacher_features import TeacherFeatures

from benchmarks.results import print_rows
from benchmarks.timing import PeakMemory, quartiles, seconds_of
from benchmarks.training import Bench

MNLI_EXAMPLES, MNLI_CENTROIDS, BASE_FEATURES = 392_702, 300, 128 * 768


def measure_memory(sizes, device):
    """Yield rows: the passes and the whole build of the teacher memory, with and without a feature cache, against one forward."""
    for size, _, _ in sizes:
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

        run = bench.run("FSD_G", data)

        times = {"pass 1": [], "pass 2": [], "pass 3": [], "whole build": [], "whole build, features kept": [],
                 "--student_memory_init centroids": []}
        for turn in range(-1, rounds):  # the first is a warm-up
            bare = seconds_of(forward_once, device)[0]
            kept = seconds_of(lambda build=build: build(math.inf), device)[0]
            whole, history = seconds_of(lambda build=build: build(0), device)
            with contextlib.redirect_stderr(io.StringIO()):
                start = seconds_of(lambda run=run: start_from_clusters(run), device)[0]
            bare = (bare + seconds_of(forward_once, device)[0]) / 2
            if turn >= 0:
                values = [*(report.seconds for report in history), whole, kept, start]
                for name, value in zip(times, values, strict=True):
                    times[name].append(value / bare)
        print(f"\n**{size.describe()}**; {len(data)} examples; {rounds} rounds; bare teacher forward: {bare:.1f} s\n")
        rows = []
        for name, values in times.items():
            low, middle, high = quartiles(values)
            rows.append({"size": size.describe(), "method": f"memory, {name}", "ratio": middle, "ratio_quartiles": [low, high],
                         "beside": "bare teacher forward", "examples": len(data)})
        print_rows(rows, ("method", "ratio", "beside"))
        yield rows


def measure_large(minutes, device):
    """Yield one row. Prints the plan for MNLI at BERT-base, then the time and RAM of a build at that width."""
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
    count = min(MNLI_EXAMPLES, max(3200, int(0.7 * (60 * minutes - seconds) / seconds * 3200)))
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
    yield [{"size": "MNLI's sizes", "examples": count, "seconds": seconds, "peak_bytes": peak.bytes,
            "planned_bytes": plan.peak_bytes, "rest_seconds": clustering_seconds,
            "passes": [report.describe() for report in clustering.history]}]
