"""One style for all figures: colours and markers of the methods, sizes in print, and how a figure is saved."""

from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from fsd.report.names import METHODS
from fsd.system.files import written_whole

# Okabe and Ito's palette, which colour-blind readers can tell apart. It has too few colours by two: those of FSD_G and
# FSD_IL are Paul Tol's indigo and wine. The markers differ too, for prints in grey.
COLORS = {
    "teacher": "#000000", "fine-tuning": "#999999", "KD": "#0072B2", "PKD": "#009E73", "MiniLM": "#F0E442", "RKD": "#CC79A7",
    "FSD_I": "#56B4E9", "FSD_L": "#E69F00", "FSD_G": "#332288", "FSD_IL": "#882255", "FSD_ILG": "#D55E00",
}
MARKERS = dict(zip(METHODS, ("*", "X", "o", "s", "v", "^", "<", ">", "p", "h", "D"), strict=True))
INK, SOFT = "#1F2328", "#57606A"
SIGNATURE = "written by scripts/make_figures.py"
WIDTH = 6.5  # inches: the text of a page. No letter is smaller than 8 points at this width.
DPI = 200
RC = {
    "font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans", "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "figure.titlesize": 9, "axes.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": SOFT, "ytick.color": SOFT, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "grid.color": "#D0D7DE", "grid.linewidth": 0.5, "axes.axisbelow": True, "legend.frameon": False,
    "lines.linewidth": 1.4, "lines.markersize": 4.5, "pdf.fonttype": 42, "figure.facecolor": "white",
}


@dataclass
class Drawing:
    """A figure and the words that go with it.

    ``name`` is that of its files; ``alt`` tells somebody who does not see it what it shows.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


def new_figure(height):
    """An empty figure, as wide as the text of a page; ``height`` in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def marker_style(method):
    """How a method's points look. The dark edge shows the light colours on white."""
    return {"color": COLORS[method], "marker": MARKERS[method], "markeredgecolor": INK, "markeredgewidth": 0.4}


def save(drawing, folder):
    """Write ``folder/name.png`` and ``folder/name.pdf``; equal figures give equal files."""
    for ending, metadata in (("png", {"Software": SIGNATURE}), ("pdf", {"Creator": SIGNATURE, "CreationDate": None})):
        with matplotlib.rc_context(RC), written_whole(folder / f"{drawing.name}.{ending}") as temporary:
            drawing.figure.savefig(temporary, format=ending, dpi=DPI, metadata=metadata)
            drawing.figure.set_layout_engine("none")  # the panels are in place now, and finding their places is slow
