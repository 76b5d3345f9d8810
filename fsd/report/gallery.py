"""All figures of a reproduction, as files and in TensorBoard."""

import matplotlib
from matplotlib.image import imread

from fsd.records.tracking import Tracker
from fsd.report import figures, heat_maps, settings
from fsd.report.names import LARGE_TASKS, SMALL_TASKS
from fsd.report.style import RC, SIGNATURE, save
from fsd.system.files import check_ours

SMALL, LARGE = "small tasks", "large tasks"
ENDINGS = ("png", "pdf")
# File name → (how it is drawn, what it needs).
FIGURES = {
    "scores": (figures.scores, "rows of finished runs"),
    "figure3": (figures.restoration, "restoration rates of KD, PKD or FSD_ILG"),
    "figure4": (lambda found: heat_maps.batches(found, "figure4", SMALL_TASKS, SMALL), f"CKA maps of the {SMALL}"),
    "figure5": (figures.diagonals, "CKA maps"),
    "figure6": (lambda found: figures.curves(found, "figure6", SMALL_TASKS, SMALL), f"curves of relations on the {SMALL}"),
    "figure7": (lambda found: heat_maps.batches(found, "figure7", LARGE_TASKS, LARGE), f"CKA maps of the {LARGE}"),
    "figure8": (lambda found: figures.curves(found, "figure8", LARGE_TASKS, LARGE), f"curves of relations on the {LARGE}"),
    "layers": (heat_maps.layers, "CKA of the layers"),
    "settings": (settings.settings_figure, "method with several settings"),
}


def draw_all(reproduction, folder):
    """Write every figure that the reproduction has data for; returns the drawings, and a line for each figure left out.

    Files of a figure that an earlier call drew and this one leaves out are removed.

    Raises:
        InputError: another program's file has the name of a figure or of the page, or data cannot be drawn; nothing is
            written then.
    """
    for name in ("report.html", *(f"{name}.{ending}" for name in FIGURES for ending in ENDINGS)):
        check_ours(folder / name, SIGNATURE)
    drawings, left_out = [], []
    for name, (draw, needs) in FIGURES.items():
        with matplotlib.rc_context(RC):
            drawing = draw(reproduction)
        if drawing is None:
            left_out.append(f"{name} is left out: no {needs}")
        else:
            drawings.append(drawing)
    for name in FIGURES.keys() - {drawing.name for drawing in drawings}:
        for ending in ENDINGS:
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    for drawing in drawings:  # all are drawn before any is written, as data that cannot be drawn are told
        save(drawing, folder)
    return drawings, left_out


def show_in_tensorboard(drawings, folder, run_file, runs):
    """Write the figures' PNG files in ``folder`` as images of TensorBoard, at the number of finished runs as their step."""
    tracker = Tracker(run_file, "figures", step=runs - 1)
    for drawing in drawings:
        tracker.image(drawing.name, imread(folder / f"{drawing.name}.png")[..., :3], runs)
    tracker.flush()
