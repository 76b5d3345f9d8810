"""scripts/make_tables.py on made rows: golden cells, forms of the files, partial results, notes, errors."""

import csv
import io
import re
from functools import partial

import pytest
from conftest import ROOT
from made_up_rows import PUBLISHED, analysis, cells, row, tables_of, write_reproduction

from fsd.report.analysis_tables import read_benchmark
from fsd.report.table import FIRST_LINES, Table, Value, write_tables
from fsd.system.errors import InputError
from fsd.system.files import write_json

NAMES = [f"table{number}.{kind}" for number in range(2, 9) for kind in ("md", "tex", "csv")]
RTE = {"KD": (0.60, 0.62, 0.64), "PKD": (0.61, 0.62, 0.62), "fine-tuning": (0.55, 0.56), "FSD_ILG": (0.66, 0.67, 0.70)}


@pytest.fixture
def repro(tmp_path):
    """Call ``repro(rows, analyses=…, failed=…, chosen=…)``: a folder as scripts/reproduce.py leaves it."""
    return partial(write_reproduction, tmp_path / "repro")


def rte_rows():
    rows = [row(method, seed, acc=score) for method, scores in RTE.items() for seed, score in enumerate(scores, start=1)]
    return [*rows, row("fine-tuning", 1, role="teacher", acc=0.68, run="teacher")]


def test_scores_beside_the_published_ones(repro):
    table = tables_of(repro(rte_rows()))["table2"]
    assert cells(table, "teacher")["RTE acc"] == "68.00 (1)"
    assert cells(table, "nDS")["RTE acc"] == "55.50 ± 0.71 (2)"
    assert cells(table, "VKD")["RTE acc"] == "62.00 ± 2.00 (3)" and cells(table, "VKD")["WNLI acc"] == ""
    assert cells(table, "VKD", "published")["RTE acc"] == "65.40 ± 1.56"
    assert cells(table, "FSD")["RTE acc"] == "67.67 ± 2.08 (3)†"
    assert table.columns == ["WNLI acc", "RTE acc", "STS-B pearson", "STS-B spearmanr", "CoLA mcc", "MRPC f1", "MRPC acc"]
    assert cells(table, "p, Welch", "published")["RTE acc"] == "0.002"
    assert cells(table, "p, Welch", "published, recomputed")["RTE acc"] == "0.073"
    # KD's mean is the best: differences 0.06, 0.05, 0.06; t = 17, two degrees of freedom
    assert cells(table, "p, paired")["RTE acc"] == cells(table, "p, Holm")["RTE acc"] == "0.002"
    markdown = table.markdown()
    assert "| FSD | ours |  | **67.67 ± 2.08 (3)†** |" in markdown and "VKD (3)" in markdown
    assert "one-tailed permutation test" in markdown and "p = 0.125 (tasks: 1, pairs: 3, all sign patterns)" in markdown
    assert "p ≈ 0.07 for RTE" in markdown and PUBLISHED["source"] in markdown
    assert "another encoder" not in markdown and "mixed" not in markdown


def test_a_method_that_the_paper_leaves_out_has_a_line_if_it_ran(repro):
    tables = tables_of(repro([*rte_rows(), row("FSD_L", 1, acc=0.9)], [analysis("RKD", 1, 0.9)]))
    assert "| FSD_L | ours |  | **90.00 (1)** |" in tables["table2"].markdown()  # the best, so it alone is bold
    assert tables["table2"].markdown().count("**") == 4 and cells(tables["table6"], "T-RKD")["RTE"] == "0.900 (1)"
    told = {name: [(line.row, line.source) for line in table.lines] for name, table in tables.items()}
    assert ("FSD_L", "published") not in told["table2"] and ("T-RKD", "published") not in told["table6"]
    assert ("FSD_I", "ours") not in told["table2"] and ("T-FSD_L", "ours") not in told["table6"]
    assert "not in the paper's table" in tables["table2"].markdown() and "not in the paper's table" in tables["table6"].markdown()


def test_bold_is_the_best_of_several_students(repro):
    assert "**5" not in tables_of(repro([row("KD", 1, acc=0.5)]))["table2"].markdown().replace("**Table", "")
    rows = [row("KD", 1, acc=0.5), row("PKD", 1, acc=0.5), row("RKD", 1, acc=0.4), row("fine-tuning", 1, role="teacher", acc=0.9)]
    assert tables_of(repro(rows))["table2"].markdown().count("**50.00 (1)**") == 2
    right = {"KD": (36, 43, 41, 43, 38, 41), "PKD": (40, 43, 43, 36, 41, 39)}  # equal sums, but for the rounding of n / 71
    rows = [row(method, seed, acc=count / 71) for method, counts in right.items() for seed, count in enumerate(counts)]
    assert tables_of(repro(rows))["table2"].markdown().count("**56.81") == 2


def test_two_metrics_of_a_task_are_one_test(repro):
    rows = [row(method, seed, task="MRPC", f1=score + seed / 100, acc=score - 0.1 + seed**2 / 100)
            for method, score in (("KD", 0.8), ("FSD_ILG", 0.82)) for seed in (1, 2, 3)]
    rows += [row(method, seed, task="MNLI", **{"mnli/acc": score, "mnli-mm/acc": score})
             for method, score in (("KD", 0.8), ("FSD_ILG", 0.82)) for seed in (1, 2)]
    tables = tables_of(repro(rows))
    assert cells(tables["table2"], "FSD")["MRPC f1"] == "84.00 ± 1.00 (3)"
    assert cells(tables["table3"], "FSD")["MNLI mnli-mm/acc"] == "82.00 ± 0.00 (2)"
    for name, column in (("table2", "MRPC f1"), ("table3", "MNLI mnli/acc")):
        assert cells(tables[name], "p, paired")[column] == ""  # equal differences say nothing of their spread
    assert "p = 0.0312 (tasks: 2, pairs: 5, all sign patterns)" in tables["table2"].markdown()


@pytest.mark.parametrize("seeds", [((1,), (1,)), ((1, 2), (3, 4)), ((1, 2, 3), (3, 4))])
def test_one_seed_or_no_seeds_in_common_leave_p_empty(repro, seeds):
    rows = [row(method, seed, acc=0.6 + seed / 50) for method, own in zip(("KD", "FSD_ILG"), seeds, strict=True) for seed in own]
    tables = tables_of(repro(rows))
    assert cells(tables["table2"], "p, paired")["RTE acc"] == "" and "†" not in cells(tables["table2"], "FSD")["RTE acc"]
    assert not any(re.search(r"\bnan\b|None|inf\b", table.markdown() + table.csv()) for table in tables.values())


def test_parts_and_spread(repro):
    rows = [row("FSD_ILG", 1, acc=0.8), row("FSD_I", 1, acc=0.76)]
    rows += [row("FSD_ILG", 1, task="CoLA", mcc=0), row("FSD_I", 1, task="CoLA", mcc=0.1)]
    rows += [row("FSD_ILG", seed, task="WNLI", acc=acc) for seed, acc in ((1, 0.1), (2, 0.5), (3, 0.3))]
    rows += [row("FSD_I", seed, task="WNLI", acc=acc) for seed, acc in ((2, 0.5), (3, 0.5), (4, 0.9))]
    rows += [row("FSD_L", 4, task="WNLI", acc=0.9)]
    rows += [row("FSD_L", seed, task="SST-2", acc=score, batch_size=size)
             for seed, score, size in ((1, 0.9, 8), (1, 0.92, 16), (1, 0.94, 32), (2, 0.5, 64))]
    tables = tables_of(repro(rows))
    parts = cells(tables["table4"], "FSD_I")
    assert (parts["RTE acc"], parts["CoLA mcc"]) == ("−5.00 (1)", "")
    assert (parts["WNLI acc"], parts["average"]) == ("25.00 (2)", "10.00 (2)")  # the seeds 2 and 3 alone
    assert cells(tables["table4"], "FSD_L")["WNLI acc"] == ""
    assert cells(tables["table4"], "FSD_IL", "published")["MNLI mnli-mm/acc"] == "−0.36"
    assert cells(tables["table5"], "FSD_L")["SST-2 acc"] == "2.00 (3)"
    assert cells(tables["table5"], "FSD_G", "published") == {"MRPC f1": "0.47", "MRPC acc": "0.38", "SST-2 acc": "0.62"}


def test_main_experiment_is_at_32_or_at_the_usual_batch_size(repro):
    rows = [row("KD", seed, acc=0.6) for seed in (1, 2)] + [row("KD", seed, acc=0.1, batch_size=8) for seed in (1, 2, 3)]
    rows += [row("KD", seed, task="WNLI", acc=0.5, batch_size=16) for seed in (1, 2)]
    rows += [row("KD", 1, task="WNLI", acc=0.1, batch_size=8)]
    table = tables_of(repro(rows))["table2"]
    assert cells(table, "VKD")["RTE acc"] == "60.00 ± 0.00 (2)" and cells(table, "VKD")["WNLI acc"] == "50.00 ± 0.00 (2)"
    assert "a batch size other than 32: WNLI 16." in table.markdown()


def test_cka_and_its_chance_level(repro):
    analyses = [analysis("KD", 1, 0.90), analysis("KD", 2, 0.92), analysis("teacher", 1, 1.0, batch_size=None)]
    analyses += [analysis("KD", 3, 0.1, batch_size=8), analysis("KD", 1, 0.5, task="WNLI", cka=None)]
    table = tables_of(repro([row("KD", 1), row("KD", 2)], analyses))["table6"]
    assert cells(table, "T-VKD")["RTE"] == "0.910 ± 0.014 (2)" and cells(table, "T-VKD")["WNLI"] == ""
    assert cells(table, "T-VKD", "ours, shuffled")["RTE"] == "0.800 ± 0.000 (2)"
    assert cells(table, "T-VKD", "ours, chance")["RTE"] == "0.750 ± 0.000 (2)"
    assert cells(table, "T-VKD")["average"] == "0.910 (1)"
    assert cells(table, "T-T")["RTE"] == "1.000 (1)" and cells(table, "T-nDS", "published")["WNLI"] == "0.998"


def test_ranks_within_seeds(repro):
    order = {1: ("FSD_ILG", "KD", "RKD", "PKD"), 2: ("KD", "FSD_ILG", "RKD", "PKD"), 3: ("KD", "PKD", "RKD")}
    analyses = [analysis(method, seed, difference=at) for seed, methods in order.items() for at, method in enumerate(methods)]
    table = tables_of(repro([], analyses))["table7"]
    assert cells(table, "FSD")["RTE"] == "1.50 ± 0.71 (2)"  # the third seed has no FSD
    assert cells(table, "PKD")["RTE"] == "4.00 ± 0.00 (2)" and cells(table, "PKD")["average"] == "4.00 (1)"
    assert cells(table, "RKD", "published")["average"] == "2.44"


def test_cost(repro, run_script):
    folder = repro(rte_rows())
    ended = run_script("scripts/make_tables.py", "--results", folder, "--output_dir", folder / "tables", "--benchmark",
                       ROOT / "results/benchmark-epyc-2-cores.json")
    assert ended.status == 0, ended.err
    text = (folder / "tables/table8.md").read_text()
    assert "| VKD | ours, runs | 66.96 |  |  |  |" in text and "|  | published | 7.68 |  | 0.92 | 0.88 |" in text
    assert re.search(r"\|  \| ours, BERT-base: width 768.* \|  \| [\d.]+ \| [\d.]+ \|.* \|", text)


def test_times_come_from_the_benchmark(repro, tmp_path):
    measured = {"KD": (100, 1.0, 1.0), "PKD": (110, 1.1, 1.01), "RKD": (125, 1.25, 0.99), "FSD_ILG": (200, 2.0, 1.0)}
    methods = [{"size": "tiny", "method": name, "options": options, "ms": ms, "ratio": ratio}
               for name, (ms, ratio, _) in measured.items() for options in ("", "--bf16")]
    inference = [{"size": "tiny", "method": name, "ratio": ratio} for name, (_, _, ratio) in measured.items()]
    for tables, speed in (({"methods": methods, "inference": inference}, ("1.00", "0.99", "1.01", "1.00")),
                          ({"methods": methods}, ("",) * 4)):
        write_json(tmp_path / "times.json", {"tables": tables})
        table = tables_of(repro(rte_rows()), read_benchmark(tmp_path / "times.json"))["table8"]
        rows = [cells(table, label, "ours, tiny") for label in ("VKD", "PKD", "RKD", "FSD")]
        assert [row["ms a training step"] for row in rows] == ["100.00", "110.00", "125.00", "200.00"]
        assert [row["training speed"] for row in rows] == ["1.00", "0.91", "0.80", "0.50"]
        assert tuple(row["inference speed"] for row in rows) == speed


def test_files_have_valid_forms(repro, run_script):
    folder = repro(rte_rows(), [analysis("KD", 1)])
    (folder / "tables").mkdir()
    (folder / "tables/mine.txt").write_text("mine")
    flags = ("--results", folder, "--output_dir", folder / "tables")
    for _ in range(2):  # the second time over its own files
        ended = run_script("scripts/make_tables.py", *flags)
        assert ended.status == 0, ended.err
    assert sorted(path.name for path in (folder / "tables").iterdir()) == sorted([*NAMES, "mine.txt"])
    for name in NAMES:
        text = (folder / "tables" / name).read_text(encoding="utf-8")
        if name.endswith("tex"):
            assert_latex(text)
        elif name.endswith("csv"):
            rows = list(csv.DictReader(io.StringIO(text)))
            assert all(float(cells["value"]) is not None and cells["source"] for cells in rows)
        else:
            widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
            assert len(widths) == 1, name
    rows = list(csv.DictReader(io.StringIO((folder / "tables/table2.csv").read_text())))
    (fsd,) = [cells for cells in rows if (cells["row"], cells["source"], cells["column"]) == ("FSD", "ours", "RTE acc")]
    assert float(fsd["value"]) == pytest.approx(100 * sum(RTE["FSD_ILG"]) / 3) and fsd["runs"] == "3"
    assert (fsd["best"], fsd["significant"]) == ("True", "True")


def assert_latex(text):
    """Environments and braces that pair, equal numbers of cells, and no character that LaTeX would read as a command."""
    assert re.findall(r"\\(begin|end){(\w+\*?)}", text) == [
        ("begin", "table*"), ("begin", "tabular"), ("end", "tabular"), ("end", "table*")]
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    columns = len(re.search(r"\\begin{tabular}{(\w+)}", text).group(1))
    body = text.split("\\toprule")[1].split("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert rows and {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {columns - 1}
    after_comment = text.split("\n", 1)[1]
    outside_math = re.sub(r"\$[^$]*\$", "", after_comment)
    assert not re.search(r"(?<!\\)[_%#^]", outside_math) and not set("±†−≈→<") & set(after_comment.replace("$<$", ""))
    assert r"\midrule" in text and r"\caption{" in text and r"\label{" in text


def test_values_in_print():
    assert Value(66.6149, 1.006, 6, dagger=True).text(2) == "66.61 ± 1.01 (6)†"
    assert [Value(mean).text(2) for mean in (None, -0.5, 0.0, 0.002)] == ["", "−0.50", "0.00", "<0.01"]


@pytest.mark.parametrize("rows", [[], [row("KD", 1, acc=0.6)], [row("FSD_ILG", 1, task="STS-B", pearson=0.5, spearmanr=0.4)]])
def test_partial_results(repro, run_script, rows):
    folder = repro(rows)
    ended = run_script("scripts/make_tables.py", "--results", folder, "--output_dir", folder / "tables")
    assert ended.status == 0, ended.err
    text = "".join((folder / "tables" / name).read_text() for name in NAMES)
    assert not re.search(r"\bnan\b|None|<NA>", text)


def test_notes_name_what_is_mixed_or_missing(repro):
    rows = [row("KD", seed, acc=0.6, student_hidden_size=384, parameters=11e6, train_samples=1000) for seed in (1, 2)]
    on_dev = analysis("KD", 2, teacher_hash="u")
    on_dev["cka"]["split"] = "dev"
    failed = {"RTE/PKD/lr-1/seed-1": "widths differ", "SST-2/KD/x/seed-1": "stopped"}
    folder = repro(rows, [analysis("KD", 1), on_dev], failed=failed, chosen='selected_on = "dev"\n')
    tables = tables_of(folder)
    text = tables["table2"].markdown()
    assert "selected_on = dev" in text and "cells of these tasks that failed: 1." in text
    assert "students have 6 layers and width 384" in text and "RTE (1000 of 2490)" in text
    assert "mixed teachers. The students of these tasks had several: RTE (2)." in tables["table6"].markdown()
    assert "on dev instead of test: RTE." in tables["table6"].markdown()
    (folder / "chosen.toml").write_text('selected_on = "held-out"\n')
    assert "chosen on held-out training data" in tables_of(folder)["table2"].markdown()


def test_a_cell_that_was_run_again_counts_once(repro):
    folder = repro([row("KD", 1, acc=0.6), row("KD", 1, acc=0.7, run="again"), row("KD", 2, acc=0.8)])
    assert cells(tables_of(folder)["table2"], "VKD")["RTE acc"] == "75.00 ± 7.07 (2)"


def test_a_task_of_ones_own_has_all_methods(repro):
    rows = [row(method, 1, task="Mine", acc=0.5, main_metric="acc") for method in ("FSD_LG", "KD", "FSD_IG")]
    assert [line.row for line in tables_of(repro(rows))["own-tasks"].lines] == ["VKD", "FSD_IG", "FSD_LG"]


def test_without_a_single_score_all_tables_are_empty(repro):
    tables = tables_of(repro([row("KD", 1), row("FSD_I", 1), row("fine-tuning", 1, role="teacher", run="teacher")]))
    own = {name: [value.mean for line in table.lines for value in line.values.values() if line.source == "ours"]
           for name, table in tables.items() if name not in ("table8", "settings")}
    assert own and not any(mean is not None for means in own.values() for mean in means)


def test_a_table_that_an_earlier_call_wrote_and_this_one_does_not_is_removed(tmp_path):
    table, settings = (Table(name, name, [], []) for name in ("table2", "settings"))
    write_tables([table, settings], tmp_path)
    (tmp_path / "settings-kept.md").write_bytes((tmp_path / "settings.md").read_bytes())
    assert write_tables([table], tmp_path) == [tmp_path / "table2.md"]
    assert {path.name for path in tmp_path.iterdir()} == {"table2.md", "table2.tex", "table2.csv", "settings-kept.md"}
    (tmp_path / "settings.md").write_text(f"mine, not {FIRST_LINES['md']}")
    with pytest.raises(InputError, match="settings.md is not of this program"):
        write_tables([table], tmp_path)
    assert (tmp_path / "settings.md").read_text().startswith("mine")
