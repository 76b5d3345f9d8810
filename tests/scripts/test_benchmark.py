"""scripts/benchmark.py on a tiny size: its rows, and that Table 8 takes its file."""

import statistics
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from fsd.report.analysis_tables import read_benchmark
from fsd.system.files import write_json

CPU = torch.device("cpu")


@pytest.fixture
def benchmark(monkeypatch):
    """The benchmark's modules, and a tiny size with 2 pairs of 1 step."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from benchmarks import tables, timing, training

    monkeypatch.setattr(tables, "ceiling", lambda *_: 1.0)
    size = training.Size("tiny", 64, 4, 2, length=8, centroids=3)
    return SimpleNamespace(tables=tables, timing=timing, training=training, sizes=[(size, 2, 1)])


def test_every_method_and_the_relations_are_timed(benchmark, monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark.tables, "method_rows", lambda *_: [
        *((method, (), "CoLA") for method in benchmark.training.METHODS),
        ("FSD_I", ("--log_relations",), "CoLA")])
    methods = benchmark.tables.measure_methods(benchmark.sizes, CPU)
    assert [row["method"] for row in methods] == ["bare KD loop", *benchmark.training.METHODS, "FSD_I"]
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in methods)
    logged = methods[-1]
    assert logged["options"] == "--log_relations"
    assert logged["ratio_to_plain_at_50"] == pytest.approx(1 + (logged["ratio_to_plain"] - 1) / 50)
    inference = benchmark.tables.measure_inference(benchmark.sizes, CPU)
    assert [row["method"] for row in inference] == ["KD", "PKD", "RKD", "FSD_ILG"] and inference[0]["ratio"] == 1
    write_json(tmp_path / "times.json", {"tables": {"methods": methods, "inference": inference}})
    with_inference = [row["method"] for row in read_benchmark(tmp_path / "times.json") if row["inference"]]
    assert with_inference == list(benchmark.tables.TABLE_8)


def test_the_build_of_the_memory_is_timed(benchmark):
    from benchmarks import memory

    (row,) = memory.measure_memory(benchmark.sizes, CPU)
    assert row["examples"] == 64 and len(row["ratios"]) == 6
    assert all(middle > 0 for _, middle, _ in row["ratios"].values())


def test_the_rows_of_the_methods_table(benchmark):
    rows = benchmark.tables.method_rows(compiles=False, on_gpu=False)
    assert [method for method, flags, _ in rows if not flags] == list(benchmark.training.METHODS)
    assert rows[rows.index(("FSD_I", (), "CoLA")) + 1] == ("FSD_I", ("--log_relations",), "CoLA")
    assert {("FSD_ILG", form, "CoLA") for form in benchmark.tables.FORMS} <= set(rows)
    assert not any("--compile" in flags or "--fp16" in flags for _, flags, _ in rows)


def test_a_form_is_the_one_that_is_timed(benchmark, tmp_path):
    bench = benchmark.training.Bench(benchmark.sizes[0][0], CPU, 1, tmp_path)
    objective = bench.run("FSD_ILG", bench.data["CoLA"], "--similarity", "gram", "--normalize_distances").objective
    assert (objective.similarity, objective.normalize_distances, objective.debiased) == ("gram", True, False)
    assert bench.run("FSD_G", bench.data["CoLA"], "--memory_learning_rate", "1e-3").settings.memory_learning_rate == 1e-3


def test_two_sides_take_turns(benchmark):
    order = []
    bare, *others = (benchmark.timing.Contender(name, "", lambda steps, name=name: order.append(name)) for name in "abc")
    benchmark.timing.measure_blocks(bare, others, 1, 2, CPU)
    assert order[3:] == ["c", "b", "a", "b", "c", "a"]
    assert statistics.fmean(map(len, (bare.seconds, *(other.bare_seconds for other in others)))) == 2


def test_an_unknown_row(run_script):
    ended = run_script("scripts/benchmark.py", "--tables", "methods", "--only", "nothing", "--no_cuda")
    assert ended.status == 2 and "--only nothing: no row" in ended.last_line
