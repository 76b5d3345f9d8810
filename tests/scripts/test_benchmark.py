"""scripts/benchmark.py on a tiny size: its rows, and that Table 8 takes its file."""

import json
import statistics
import sys
from dataclasses import astuple
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from fsd.report.analysis_tables import read_benchmark
from fsd.system.errors import InputError
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
    monkeypatch.setattr(benchmark.tables, "method_rows", lambda _: [
        *((method, (), "CoLA") for method in benchmark.training.METHODS), ("FSD_I", ("--log_relations",), "CoLA")])
    (methods,) = benchmark.tables.measure_methods(benchmark.sizes, CPU)
    assert [row["method"] for row in methods] == ["bare KD loop", *benchmark.training.METHODS, "FSD_I"]
    assert all(row["ms"] > 0 and row["ratio"] > 0 for row in methods)
    logged = methods[-1]
    assert logged["options"] == "--log_relations"
    assert logged["ratio_to_plain_at_50"] == pytest.approx(1 + (logged["ratio_to_plain"] - 1) / 50)
    (inference,) = benchmark.tables.measure_inference(benchmark.sizes, CPU)
    assert [row["method"] for row in inference] == ["KD", "PKD", "RKD", "FSD_ILG"] and inference[0]["ratio"] == 1
    write_json(tmp_path / "times.json", {"tables": {"methods": methods, "inference": inference}})
    with_inference = [row["method"] for row in read_benchmark(tmp_path / "times.json") if row["inference"]]
    assert with_inference == list(benchmark.tables.TABLE_8)


def test_the_build_of_the_memory_is_timed(benchmark):
    from benchmarks import memory

    (rows,) = memory.measure_memory(benchmark.sizes, CPU)
    assert len(rows) == 6 and rows[0]["examples"] == 64 and all(row["ratio"] > 0 for row in rows)


def test_the_parts_of_a_step_are_timed(benchmark, monkeypatch):
    from benchmarks import parts

    monkeypatch.setattr(parts, "CENTROIDS", (3, 5))
    tables = list(parts.measure_parts(benchmark.sizes, CPU))
    assert [row["method"] for row in tables[0]] == [
        "KD", "L_I", "L_L", "L_G", "L_G's matrix products alone", "clipping and AdamW, student",
        "clipping and AdamW, student and memory"]
    assert [rows[0]["size"].split()[-1] for rows in tables] == ["3", "5"]
    assert all(row["ms"] > 0 and row["beside"] == "KD" for rows in tables for row in rows)


def test_the_optimizer_that_is_timed_moves_the_student_though_kd_drops_its_gradients(benchmark, tmp_path):
    from benchmarks import parts

    bench = benchmark.training.Bench(benchmark.sizes[0][0], CPU, 1, tmp_path)
    step = parts.optimizer_step(bench.run("KD", bench.data["CoLA"]))
    bench.student.zero_grad()
    before = bench.student.classifier.weight.clone()
    step()
    assert not torch.equal(before, bench.student.classifier.weight)


def test_evaluation_is_timed(benchmark):
    (rows,) = benchmark.tables.measure_evaluation(benchmark.sizes, CPU)
    assert [row["method"] for row in rows] == ["bare forward", "--do_eval"] * 2
    assert [row["options"][1:5] for row in rows] == ["CoLA", "CoLA", "MNLI", "MNLI"] and all(row["ms"] > 0 for row in rows)


def test_processes_are_timed(benchmark, monkeypatch):
    from benchmarks import processes

    monkeypatch.setattr(processes, "block_seconds", lambda size, count, steps: 0.5 + 0.1 * count)
    ((one, two),) = processes.measure_processes(benchmark.sizes[0][0], 2, 1)
    assert one["ratio"] == 1 and two["ratio"] == pytest.approx(7 / 6) and two["ms"] == pytest.approx(700)


def test_the_program_of_the_processes(benchmark, monkeypatch, capsys):
    from benchmarks import processes

    monkeypatch.setattr(sys, "argv", ["processes.py", json.dumps(astuple(benchmark.sizes[0][0])), "1"])
    processes.main()
    assert float(capsys.readouterr().out) > 0


def test_a_peer_that_is_not_installed(benchmark, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "textbrewer", None)
    monkeypatch.setattr(benchmark.tables, "method_rows", lambda _: [("KD", (), "CoLA")])
    (rows,) = benchmark.tables.measure_methods(benchmark.sizes, CPU, peers=True)
    assert [row["method"] for row in rows] == ["bare KD loop", "KD"]
    assert "TextBrewer is not installed" in capsys.readouterr().out


def test_a_file_keeps_the_rows_that_are_not_measured_anew(benchmark, tmp_path, capsys):
    from benchmarks import results

    row = {"size": "small", "method": "KD", "options": "", "ms": 1.0, "ratio": 1.0, "ratio_quartiles": [0.5, 1.5],
           "commit": "abc"}
    old, new = row | {"size": "base"}, row | {"ms": 2.0}
    assert results.merged([row, old, row | {"method": "PKD"}], [new], ("size",)) == [old, new]
    assert results.merged([row, row | {"method": "PKD"}], [new], ("size", "method")) == [row | {"method": "PKD"}, new]
    about = {"device": "CPU", "python": "3", "torch": "2", "transformers": "5"}
    path = tmp_path / "benchmark.json"
    assert results.earlier_tables(path, about) == {}
    write_json(path, about | {"tables": {"methods": [row], "large": [{"size": "MNLI's"}]}})
    assert results.earlier_tables(path, about)["methods"] == [row]
    with pytest.raises(InputError, match="no benchmark of this machine with torch 3"):
        results.earlier_tables(path, about | {"torch": "3"})
    write_json(tmp_path / "damaged.json", about | {"tables": {"methods": [1]}})
    with pytest.raises(InputError, match="its tables are damaged"):
        results.earlier_tables(tmp_path / "damaged.json", about)
    results.show(path)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| size | method | ms a step | ratio (quartiles) |", "| --- | --- | --- | --- |",
        "| small | KD | 1 | 1.000 (0.500–1.500) |"]


def test_what_was_stopped_keeps_the_earlier_rows_and_a_whole_run_leaves_none(benchmark, run_script, monkeypatch, tmp_path):
    path = tmp_path / "benchmark.json"

    def measure(*methods, stops=False):
        def tables(*_):
            for method in methods:
                yield [{"size": "tiny", "method": method, "options": "", "ms": len(methods)}]
            if stops:
                raise InputError("stopped")

        monkeypatch.setattr(benchmark.tables, "measure_evaluation", tables)
        ended = run_script("scripts/benchmark.py", "--tables", "evaluation", "--no_cuda", "--output", path)
        assert ended.status == 2 * stops, ended.err
        return {row["method"]: row["ms"] for row in json.loads(path.read_text())["tables"]["evaluation"]}

    assert measure("KD", "PKD", "RKD") == {"KD": 3, "PKD": 3, "RKD": 3}
    assert measure("KD", stops=True) == {"KD": 1, "PKD": 3, "RKD": 3}
    assert measure("KD", "PKD") == {"KD": 2, "PKD": 2}


def test_the_rows_of_the_methods_table(benchmark):
    rows = benchmark.tables.method_rows(compiles=False)
    assert [method for method, flags, _ in rows if not flags] == list(benchmark.training.METHODS)
    assert rows[rows.index(("FSD_I", (), "CoLA")) + 1] == ("FSD_I", ("--log_relations",), "CoLA")
    assert {("FSD_ILG", form, "CoLA") for form in benchmark.tables.FORMS} <= set(rows)
    assert not any("--compile" in flags or "--fp16" in flags for _, flags, _ in rows)


def test_a_form_is_the_one_that_is_timed(benchmark, tmp_path):
    bench = benchmark.training.Bench(benchmark.sizes[0][0], CPU, 1, tmp_path)
    objective = bench.run("FSD_ILG", bench.data["CoLA"], "--similarity", "gram", "--normalize_distances").objective
    assert (objective.similarity, objective.normalize_distances, objective.debiased) == ("gram", True, False)
    assert bench.run("FSD_G", bench.data["CoLA"], "--memory_learning_rate", "1e-3").settings.memory_learning_rate == 1e-3


def test_products_that_packing_saves_are_not_counted(benchmark, tmp_path):
    size = benchmark.training.Size("small", 64, 4, 16, length=32, centroids=3)
    bench = benchmark.training.Bench(size, CPU, 1, tmp_path)
    data = bench.data["CoLA"]
    whole, packed = (bench.run("KD", data, *flags) for flags in ((), ("--mask_padding", "--cache_teacher", "ram")))
    (batch,) = packed.update_batches(0)[0]
    longest, tokens = data.lengths[batch].max(), data.lengths[batch].sum()
    rows, width = bench.shape(packed, batch)
    assert bench.shape(whole, batch) == (16, 32) and width == longest and tokens <= rows * width < 16 * longest


def test_two_sides_take_turns(benchmark):
    order = []
    bare, *others = (benchmark.timing.Contender(name, "", lambda steps, name=name: order.append(name) or 1.0) for name in "abc")
    benchmark.timing.measure_blocks(bare, others, 1, 2, CPU)
    assert order[3:] == ["c", "b", "a", "b", "c", "a"]
    assert statistics.fmean(map(len, (bare.seconds, *(other.bare_seconds for other in others)))) == 2


def test_the_parts_of_a_gpu(benchmark):
    size = benchmark.training.Size("BERT-base", 768, 12, 32)
    parts = benchmark.tables.sections(size, on_gpu=True)
    assert [size.batch_size for size, _ in parts] == [32, 32, 256, 32, 256]
    methods = [[method for method, flags, _ in rows if "--log_relations" not in flags] for _, rows in parts]
    every = [*benchmark.training.METHODS, "KD", "FSD_ILG"]  # the last two as CUDA graphs
    assert methods[0] == methods[2] == every and methods[1][: len(every)] == every
    assert methods[3] == methods[4] == ["KD", "KD", "FSD_ILG", "FSD_ILG"]
    assert all(sum("--cuda_graphs" in flags for _, flags, _ in rows) == (5 if place == 1 else 2)
               for place, (_, rows) in enumerate(parts))
    assert all(("--bf16" in flags) == (place > 0) for place, (_, rows) in enumerate(parts) for _, flags, _ in rows)
    assert benchmark.tables.sizes(["base"], None, None, None, torch.device("cuda")) == [(size, 5, None)]


def test_a_gpu_stood_in_for_by_the_cpu(benchmark, monkeypatch, capsys):
    """The parts of a GPU on a tiny size, without --compile and --cuda_graphs, and with a method that finds no memory."""
    gpu_parts = benchmark.tables.sections
    monkeypatch.setattr(benchmark.tables, "sections", lambda size, _: [
        (part, [row for row in rows if row[0] in ("KD", "FSD_ILG", "FSD_I") and not {"--compile", "--cuda_graphs"} & set(row[1])])
        for part, rows in gpu_parts(size, on_gpu=True)[:2]])
    monkeypatch.setattr(benchmark.timing, "BLOCK_STEPS", (1, 2))
    ours = benchmark.training.Bench.ours

    def without_memory(bench, method, *flags, **lengths):
        contender = ours(bench, method, *flags, **lengths)

        def fails(steps):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")

        contender.steps = fails if (method, *flags) == ("FSD_I",) else contender.steps
        return contender

    monkeypatch.setattr(benchmark.training.Bench, "ours", without_memory)
    ((size, pairs, _),) = benchmark.sizes
    float32, bf16 = benchmark.tables.measure_methods([(size, pairs, None)], CPU)
    assert [row["method"] for row in float32] == ["bare KD loop", "KD", "FSD_I", "FSD_ILG"]
    assert [row["options"] for row in float32] == ["", "", "--log_relations", ""]
    assert {row["method"] for row in bf16} == {"bare KD loop", "KD", "FSD_I", "FSD_ILG"}
    assert all(row["ratio_to_kd"] for row in float32 if not row["options"] and row["method"] != "bare KD loop")
    assert "FSD_I : left out: out of memory\n" in capsys.readouterr().out


@pytest.mark.parametrize(("flags", "words"), [
    (["--tables", "methods", "--only", "nothing"], "--only nothing: no row"),
    (["--tables", "parts", "--only", "KD"], "--only and --peers are for the methods table"),
    (["--tables", "parts", "--output", __file__ + "/x.json"], "is not a folder"),
    (["--show", __file__, "--pairs", "3"], "so --no_cuda has no effect"),
])
def test_what_would_not_be_measured_is_told(run_script, flags, words):
    ended = run_script("scripts/benchmark.py", *flags, "--no_cuda")
    assert ended.status == 2 and words in ended.last_line
