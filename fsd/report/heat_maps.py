"""The CKA maps: of the teacher's mini-batches against a student's (Figures 4 and 7), and of layers against layers."""

import numpy as np

from fsd.report.figures import named
from fsd.report.names import LABELS, NAMES, WITH_MAPS, map_name
from fsd.report.style import Drawing, new_figure
from fsd.system.errors import InputError

COLOR_MAP = "cividis"  # even steps of lightness, and the same to colour-blind readers
TALLEST = 9.0  # inches: a page
MAPS_CAPTION = (
    "Pixel (i, j): CKA of the teacher's penultimate features of mini-batch i and the other model's of mini-batch j. The "
    "numbers: mean of the diagonal, and in brackets that with shuffled examples, by chance. Means over seeds. T: the teacher. "
)


def mean_map(maps, what):
    """The mean of several runs' maps.

    Raises:
        InputError: their sizes differ; the message names ``what``.
    """
    if len({np.shape(values) for values in maps}) > 1:
        raise InputError(f"--results: {what}: CKA maps of different sizes; analyse these runs again with one --max_batches")
    return np.mean(maps, axis=0)


def batches(reproduction, name, tasks, where):
    """Figures 4 and 7: a row of maps for each task. ``where`` names the tasks in the title."""
    found = {
        (task, method): runs for task in reproduction.tasks("cka") if task in tasks for method in WITH_MAPS
        if (runs := reproduction.parts("cka", task, method))
    }
    if not found:
        return None
    maps = {(task, method): mean_map([run["map"] for run in runs], f"{task} {method}") for (task, method), runs in found.items()}
    diagonals, chance = ({key: np.mean([run[name] for run in runs]) for key, runs in found.items()}
                         for name in ("mean_diagonal", "shuffled_mean_diagonal"))
    titles = {key: f"{map_name(key[1])}\n{diagonals[key]:.3f} ({chance[key]:.3f})" for key in maps}
    told = ", ".join(f"{task} {map_name(method)} {value:.3f}" for (task, method), value in diagonals.items())
    figure = draw_maps(maps, titles, 1.52, "mini-batch j of the other model", "mini-batch i")
    return Drawing(
        name, f"Figure {name.removeprefix('figure')}: CKA maps, {where}", f"{MAPS_CAPTION}{NAMES}",
        f"Heat maps of CKA between mini-batches. Mean diagonals: {told}.", figure,
    )


def layers(reproduction):
    """CKA of every teacher layer against every student layer."""
    maps = {
        (task, method): mean_map([run["map"] for run in runs], f"{task} {method}") for task in reproduction.tasks("layers")
        for method in WITH_MAPS[1:] if (runs := reproduction.parts("layers", task, method))
    }
    if not maps:
        return None
    tasks, methods = (list(dict.fromkeys(names)) for names in zip(*maps, strict=True))
    titles = {(task, method): _layers_title(reproduction, task, method) for task, method in maps}
    figure = draw_maps(maps, titles, 1.3, "layer of the student", "teacher layer")
    return Drawing(
        "layers", "Layers of teacher and student",
        f"CKA of every teacher layer with every student layer on dev; layer 0 is the embeddings. The numbers: mean of the "
        f"map, and of its chance levels in brackets. Means over seeds and mini-batches. {NAMES}",
        f"Heat maps of CKA between the layers of the teacher and of {named(methods)} on {', '.join(tasks)}.", figure,
    )


def _layers_title(reproduction, task, method):
    """The method's name, the mean of its map, and that of the chance levels, which older analyses lack."""
    parts = reproduction.parts("layers", task, method)
    title = f"{LABELS[method]}\n{np.mean([part['map'] for part in parts]):.3f}"
    levels = [part["chance_map"] for part in parts if part.get("chance_map")]
    return title + (f" ({np.mean(levels):.3f})" if levels else "")


def draw_maps(maps, titles, height, x_label, y_label):
    """A figure of maps {(task, method): [rows, columns]}: tasks are rows, methods columns; one colour scale for all.

    ``height``: inches of a row, less where many tasks must fit on a page; ``titles``: {(task, method): words above the map}.
    """
    tasks, methods = (sorted(set(names), key=list(names).index) for names in zip(*maps, strict=True))
    methods.sort(key=WITH_MAPS.index)
    low, high = min(values.min() for values in maps.values()), max(values.max() for values in maps.values())
    figure = new_figure(min(0.6 + height * len(tasks), TALLEST))
    panels = figure.subplots(len(tasks), len(methods), squeeze=False)
    for row, task in zip(panels, tasks, strict=True):
        for panel, method in zip(row, methods, strict=True):
            if (task, method) not in maps:
                panel.axis("off")
                continue
            values = maps[task, method]
            image = panel.imshow(values, cmap=COLOR_MAP, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
            panel.set_title(titles[task, method], fontsize=8)
            panel.spines[:].set_visible(False)
            panel.tick_params(length=2, pad=1.5)
            for axis, size in ((panel.xaxis, values.shape[1]), (panel.yaxis, values.shape[0])):
                axis.set_ticks(sorted({0, size // 2, size - 1}))
            if panel is not next(other for other in row if other.images):
                panel.set_yticklabels([])
        first = row[[(task, method) in maps for method in methods].index(True)]
        first.set_ylabel(f"{task}\n{y_label}")
    figure.supxlabel(x_label, fontsize=8)
    figure.colorbar(image, ax=panels, label="CKA", aspect=12 * len(tasks), fraction=0.025, pad=0.015)
    return figure
