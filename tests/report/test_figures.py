"""The figures of a reproduction: their files, their data, TensorBoard, and what is wrong with a reproduction."""

import json
import shutil
import struct

import numpy as np
import pytest
from made_up_reproduction import add_run, analysis, make_reproduction
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsd.records.results import append_result
from fsd.report import figures, heat_maps, settings, style
from fsd.report.gallery import draw_all
from fsd.report.names import LABELS, LARGE_TASKS, METHODS, SMALL_TASKS
from fsd.report.runs import read_reproduction
from fsd.report.style import COLORS, MARKERS
from fsd.system.errors import InputError
from fsd.system.files import write_json

DRAWN = ["scores", "figure3", "figure4", "figure5", "figure6", "layers"]


@pytest.fixture(scope="module")
def reproduction(tmp_path_factory):
    """A whole reproduction, which no test may change."""
    return make_reproduction(tmp_path_factory.mktemp("reproduction"), tasks=["RTE", "STS-B"])


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Pictures of few dots, which are fast to write."""
    monkeypatch.setattr(style, "DPI", 40)


def make_figures(run_script, folder, *more):
    return run_script("scripts/make_figures.py", "--results", folder, "--output_dir", folder / "figures", *more)


@pytest.fixture
def partial(tmp_path):
    """A reproduction with one run of one method, which has no analysis yet but its layers."""
    folder = tmp_path / "partial"
    add_run(folder, "RTE", "KD", 1, 0.5, restoration=None, cka=None, curves=None, relations=None)
    return folder


def test_all_figures_are_files_of_pictures(run_script, monkeypatch, tmp_path):
    monkeypatch.setenv("MPLBACKEND", "tkagg")  # which needs a screen, and must not be asked
    folder = make_reproduction(tmp_path / "made", tasks=["RTE"])
    ended = make_figures(run_script, folder)
    assert ended.status == 0, ended.err
    for name in DRAWN:
        picture = (folder / f"figures/{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG") and struct.unpack(">I", picture[16:20])[0] == 40 * style.WIDTH
        assert (folder / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
    missing = [line for line in ended.out.splitlines() if "left out" in line]
    assert [line.split()[0] for line in missing] == ["figure7", "figure8", "settings"]
    assert not (folder / "figures/figure7.png").exists()
    events = EventAccumulator(str(folder / "figures/runs/figures")).Reload()
    assert sorted(events.Tags()["images"]) == sorted(DRAWN)
    assert events.Images("figure3")[0].step == 21 and events.Images("figure3")[0].width == 40 * style.WIDTH


@pytest.mark.parametrize("name", ["scores.png", "figure7.pdf", "report.html"])
def test_files_of_others_are_not_replaced(partial, run_script, name):
    assert make_figures(run_script, partial).status == make_figures(run_script, partial).status == 0
    (partial / "figures" / name).write_bytes(b"mine")
    before = (partial / "figures/scores.pdf").stat().st_mtime_ns
    refused = make_figures(run_script, partial)
    assert refused.status == 2 and f"{name} is not of this program" in refused.last_line
    assert (partial / "figures" / name).read_bytes() == b"mine"
    assert (partial / "figures/scores.pdf").stat().st_mtime_ns == before


def test_partial_data_gives_what_it_has(partial, run_script):
    ended = make_figures(run_script, partial, "--run_file", partial / "elsewhere")
    assert ended.status == 0, ended.err
    assert {path.stem for path in (partial / "figures").glob("*.pdf")} == {"scores", "layers"}
    assert len([line for line in ended.out.splitlines() if "left out" in line]) == 7
    assert (partial / "figures/report.html").is_file() and not (partial / "figures/runs").exists()
    assert list((partial / "elsewhere/figures").iterdir())


def test_rows_without_analyses_and_analyses_without_rows(partial):
    (partial / "results.csv").unlink()
    assert [drawing.name for drawing in draw_all(read_reproduction(partial), partial)[0]] == ["layers"]
    add_run(partial, "RTE", "KD", 1, 0.5)
    shutil.rmtree(partial / "analysis")
    assert [drawing.name for drawing in draw_all(read_reproduction(partial), partial)[0]] == ["scores"]
    assert {path.name for path in partial.glob("*.p*")} == {"scores.png", "scores.pdf"}  # the layers' are of an earlier call


def test_settings_of_one_method_are_rows_of_a_figure(reproduction, tmp_path):
    assert settings.settings_figure(read_reproduction(reproduction)) is None  # each method has one setting
    for task in ("RTE", "CoLA"):
        for seed, debiased in ((1, False), (2, False), (1, True)):
            run = f"{task}-FSD_ILG-{seed}-{debiased}"
            append_result(tmp_path / "results.csv", {
                "task": task, "method": "FSD_ILG", "role": "student", "seed": seed, "batch_size": 32, "run": run,
                "acc": 0.6 + 0.1 * debiased, "mcc": 0.4, "flags": json.dumps({"beta": 1, "debiased": debiased}),
            })
            write_json(tmp_path / f"analysis/{run}.json", analysis(task, "FSD_ILG", seed, 0.5) | {"run": run})
    drawing = settings.settings_figure(read_reproduction(tmp_path))
    panels = [panel.get_title() for panel in drawing.figure.axes]
    assert panels == ["RTE: acc", "RTE: CKA with the teacher", "CoLA: mcc", "CoLA: CKA with the teacher"]
    assert [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()] == ["FSD", "FSD, debiased"]
    assert "Highest mean score: RTE FSD, debiased" in drawing.alt


def test_an_empty_folder_and_no_folder(run_script, tmp_path):
    ended = make_figures(run_script, tmp_path)
    assert ended.status == 2 and "neither results.csv nor analysis" in ended.last_line
    ended = make_figures(run_script, tmp_path / "none")
    assert ended.status == 2 and "no such folder" in ended.last_line
    ended = make_figures(run_script, tmp_path, "--tables", tmp_path / "none")
    assert ended.status == 2 and "--tables" in ended.last_line


@pytest.mark.parametrize(("part", "value"), [
    ("task", "of mine"), ("method", 5), ("seed", "one"), ("restoration", {"precision": 1}), ("restoration", [1]),
    ("relations", {"inter_cosine": 1}),
    ("cka", {"map": [[1, 2]], "mean_diagonal": 1, "shuffled_mean_diagonal": 1}), ("cka", {"map": [[1.0]]}),
    ("layers", {"map": [[1, 2], [1]]}), ("layers", {"map": []}), ("layers", {"map": [[float("nan")]]}),
    ("curves", {"step": [1, 2], "inter_euclidean": [1, 2]}), ("run", ["r"]), ("teacher_hash", {"a": 1}),
    ("cka", {"map": [[1.0]], "mean_diagonal": 1, "shuffled_mean_diagonal": 1, "chance_mean_diagonal": "x"}),
    ("cka", {"map": [[1.0]], "mean_diagonal": 1, "shuffled_mean_diagonal": 1, "split": ["dev"]}),
    ("layers", {"map": [[1.0]], "chance_map": "x"}), ("layers", {"map": [[10**400]]}), ("seed", 10**400),
])
def test_a_damaged_analysis_is_one_line(partial, run_script, part, value):
    (path,) = (partial / "analysis").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
    ended = make_figures(run_script, partial)
    assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1
    assert str(path) in ended.last_line and part in ended.last_line and not (partial / "figures").exists()


@pytest.mark.parametrize(("name", "text"), [
    ("analysis/x.json", '{"task": '), ("analysis/x.json", "[1]"), ("failed.json", "[1]"), ("chosen.toml", "= ="),
    ("chosen.toml", "a = " + 10_000 * "["), ("tables/table9.md", "<!-- written by scripts/make_tables.py -->\udcff"),
])
def test_a_damaged_file_is_one_line(partial, run_script, name, text):
    (partial / name).parent.mkdir(exist_ok=True)
    (partial / name).write_text(text, errors="surrogateescape")
    ended = make_figures(run_script, partial)
    assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1 and name.split("/")[-1] in ended.last_line
    assert not (partial / "figures").exists()


def test_a_row_without_a_score_is_one_line(partial, run_script):
    path = partial / "results.csv"
    path.write_text(path.read_text().replace("0.66", "much"))
    ended = make_figures(run_script, partial)
    assert ended.status == 2 and "acc: 'much'" in ended.last_line


def test_restoration_shows_means_and_deviations(tmp_path):
    for seed, rate in ((1, 0.8), (2, 0.9)):
        add_run(tmp_path, "RTE", "KD", seed, 0.5, restoration=dict.fromkeys(("precision", "recall", "f1"), rate))
    panel = figures.restoration(read_reproduction(tmp_path)).figure.axes[0]
    assert panel.patches[0].get_height() == pytest.approx(85)
    (whisker,) = panel.containers[1].lines[2][0].get_segments()
    assert whisker[:, 1] == pytest.approx([85 - 50**0.5, 85 + 50**0.5])


def test_maps_share_one_scale_and_name_the_mean_of_the_diagonal(reproduction):
    drawing = heat_maps.batches(read_reproduction(reproduction), "figure4", SMALL_TASKS, "small tasks")
    images = [image for panel in drawing.figure.axes for image in panel.images]
    assert len(images) == 2 * 5 and len({image.get_clim() for image in images}) == 1
    assert images[0].get_clim()[0] == min(image.get_array().min() for image in images)
    titles = [panel.get_title() for panel in drawing.figure.axes[:5]]
    assert [title.split("\n")[0] for title in titles] == ["T–T", "T–nDS", "T–VKD", "T–PKD", "T–FSD"]
    diagonal, level = titles[0].split("\n")[1].split()
    assert diagonal == f"{np.trace(images[0].get_array()) / 6:.3f}" and 0.7 <= float(level.strip("()")) <= 0.72
    assert heat_maps.batches(read_reproduction(reproduction), "figure7", LARGE_TASKS, "large tasks") is None


def test_maps_of_several_sizes_are_refused(partial):
    add_run(partial, "RTE", "KD", 2, 0.5, layers={"map": [[1.0]]}, cka=None)
    with pytest.raises(InputError, match="--results: RTE KD: .* different sizes"):
        draw_all(read_reproduction(partial), partial / "figures")
    assert not (partial / "figures").exists()


def test_curves_are_means_at_the_steps_that_all_seeds_have():
    names = figures.RELATIONS
    runs = [{"step": [1, 2, 3]} | dict.fromkeys(names, [1, 2, 3]), {"step": [2, 3, 4]} | dict.fromkeys(names, [4, 5, 6])]
    steps, values = figures.mean_curves(runs)
    assert steps == [2, 3] and [list(values[name]) for name in names] == [[3, 4]] * 4
    assert figures.mean_curves([runs[0], {"step": [9]} | dict.fromkeys(names, [0])])[0] == []


def test_diagonals_mark_chance(reproduction):
    found = read_reproduction(reproduction)
    panel = figures.diagonals(found).figure.axes[1]
    marks = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "|"]
    chance = [np.mean([part["shuffled_mean_diagonal"] for part in found.parts("cka", "RTE", method)]) for method in METHODS]
    assert marks[: len(chance)] and set(np.round(chance, 9)) <= set(np.round(marks, 9))


def test_one_run_a_seed_and_one_batch_size_a_task(tmp_path):
    for size, seeds in ((8, (1, 2, 3)), (32, (1, 2))):
        for seed in seeds:
            add_run(tmp_path, "RTE", "FSD_L", seed, 0.5, batch_size=size, run=f"{size}-{seed}")
            path = tmp_path / f"analysis/RTE-FSD_L-{seed}-1a2b.json"
            path.rename(path.with_name(f"{size}-{seed}.json"))
    shutil.copy(tmp_path / "analysis/32-2.json", tmp_path / "analysis/again.json")
    assert list(read_reproduction(tmp_path).analyses["run"]) == ["32-1", "32-2"]


def test_each_method_has_its_own_look():
    for looks in (COLORS, MARKERS, LABELS):
        assert set(looks) == set(METHODS) and len(set(looks.values())) == len(METHODS)
