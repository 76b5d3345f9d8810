"""Draws docs/structures.svg: the three feature structures, each in the teacher and in the student, and their comparison.

    python docs/draw_structures.py [--output docs/structures.svg]

The ending of the output's name chooses the format. The matrices are computed from small random features, which only
illustrate. The distances and cosines belong to the points that are drawn.
"""

import argparse
import re
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Arc, FancyArrowPatch, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path as Outline

WIDTH, HEIGHT = 900, 532
PIXEL = 0.75  # points in a pixel of the figure
TEACHER, STUDENT, MEMORY = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's palette, safe for colour-blind readers
INK, SOFT, RULE, PAPER = "#1F2328", "#57606A", "#8C959F", "#F6F8FA"
SHADES = 9
BOX_TOP = 422
PANEL_WIDTH, PANEL_LEFTS = 282, (14, 309, 604)
TOKENS = ("[CLS]", "a", "fine", "film", "[SEP]")
EXAMPLES = ("a fine\nfilm", "pure\njoy", "good\nfun", "so\ndull", "a sad\nmess")
# Placed by hand: what the student has resembles what the teacher has, and no mark covers another.
CENTROIDS = np.array([[0.17, 0.84], [0.97, 0.16], [0.84, 0.92]])
POINTS = np.array([[0.44, 0.58], [0.40, 0.90], [0.18, 0.50], [0.69, 0.23], [0.86, 0.42]])
STUDENT_CENTROIDS = np.array([[0.18, 0.75], [0.92, 0.15], [0.76, 0.84]])
STUDENT_POINTS = np.array([[0.41, 0.53], [0.38, 0.81], [0.15, 0.44], [0.70, 0.19], [0.86, 0.38]])
SPACE_WIDTH, SPACE_HEIGHT, SPACE_TOP = 106, 92, 190


def features(centres, groups, width, seed):
    """Features [items, width]: each item's group centre and a little noise of its own."""
    generator = np.random.default_rng(seed)
    shared = np.asarray(centres)[list(groups)] @ generator.normal(size=(len(centres[0]), width))
    return shared + generator.normal(scale=0.3, size=shared.shape)


def centered_gram(x):
    """Similarities [items, items] of features x: the Gram matrix of the centred features."""
    x = x - x.mean(axis=0)
    return x @ x.T


def tint(color, share):
    """Between nearly white (share 0) and the full colour (share 1)."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return tuple(1 - (0.06 + 0.94 * share) * (1 - rgb))


class Panel:
    """One panel, drawn in pixels from its own upper left corner."""

    def __init__(self, axes, left, name, scope, question):
        self.axes, self.left = axes, left
        axes.add_patch(rounded(left, 14, PANEL_WIDTH, HEIGHT - 60, 8, "none", PAPER))
        self.text(PANEL_WIDTH / 2, 36, name, 17, weight="bold")
        self.text(PANEL_WIDTH / 2, 57, scope, 12, weight="bold")
        self.text(PANEL_WIDTH / 2, 78, question, 12, color=SOFT)

    def text(self, x, y, words, size, color=INK, ha="center", **style):
        """Words whose middle is at height y; size in pixels."""
        self.axes.text(self.left + x, y, words, fontsize=size * PIXEL, color=color, ha=ha, va="center", **style)

    def arrow(self, start, end, color=RULE):
        """An arrow that ends exactly at ``end``."""
        start, end = ((self.left + x, y) for x, y in (start, end))
        self.axes.add_patch(FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=8, shrinkA=0, shrinkB=0, color=color, linewidth=1.2, joinstyle="miter"
        ))

    def matrix(self, x, y, values, cell, color):
        """A heat map whose upper left corner is at (x, y); a cell is ``cell`` = (width, height)."""
        low, high = values.min(), values.max()
        (rows, columns), (width, height) = values.shape, cell
        shades = np.round((values - low) / (high - low) * SHADES)
        # One path for all cells of a shade keeps the file small.
        for shade in np.unique(shades):
            corners = np.argwhere(shades == shade)[:, None, ::-1] + np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
            cells = [Outline(corner * cell + (self.left + x, y), closed=True) for corner in corners]
            self.axes.add_patch(PathPatch(
                Outline.make_compound_path(*cells), facecolor=tint(color, shade / SHADES), edgecolor="white", linewidth=0.5
            ))
        self.axes.add_patch(Rectangle((self.left + x, y), columns * width, rows * height, fill=False, edgecolor=color))

    def row_names(self, x, y, names, height, size):
        """One name left of each row of a matrix, ending at x."""
        for row, name in enumerate(names):
            self.text(x, y + (row + 0.5) * height, name, size, color=SOFT, ha="right")

    def compare(self, teacher_edge, student_edge, y, word, color=INK):
        """The name of a comparison, with an arrow from each side; returns its middle."""
        middle = (teacher_edge + student_edge) / 2
        self.axes.add_patch(rounded(self.left + middle - 19, y - 10, 38, 20, 9, color, linewidth=1.3))
        self.text(middle, y, word, 11.5, color=color, weight="bold")
        self.arrow((teacher_edge + 3, y), (middle - 20, y), color)
        self.arrow((student_edge - 3, y), (middle + 20, y), color)
        return middle

    def items(self, caption, words):
        """The strip of tokens or examples that both models read."""
        self.text(PANEL_WIDTH / 2, 102, caption, 11.5, color=SOFT)
        for number, word in enumerate(words):
            left = self.left + 11 + 52.6 * number
            self.axes.add_patch(rounded(left, 112, 49, 34, 4))
            self.text(11 + 52.6 * number + 24.5, 129, word, 11, linespacing=1.05)

    def sides(self, teacher_x, student_x):
        """Teacher's and student's name, each under an arrow from the items."""
        for x, name, color in ((teacher_x, "teacher", TEACHER), (student_x, "student", STUDENT)):
            self.arrow((x, 150), (x, 166), color)
            self.text(x, 176, name, 13, color=color, weight="bold")

    def loss(self, from_x, from_y, *lines):
        """The loss in a box at the foot, under an arrow from (from_x, from_y)."""
        self.arrow((from_x, from_y), (from_x, BOX_TOP - 3))
        self.axes.add_patch(rounded(self.left + 10, BOX_TOP, PANEL_WIDTH - 20, 54, 6))
        for number, line in enumerate(lines):
            self.text(PANEL_WIDTH / 2, BOX_TOP + 16 + 22 * number, line, 12.5)


def rounded(left, top, width, height, radius, edgecolor=RULE, facecolor="white", linewidth=0.8):
    """A rectangle with round corners."""
    shape = f"round,pad=0,rounding_size={radius}"
    return FancyBboxPatch((left, top), width, height, shape, edgecolor=edgecolor, facecolor=facecolor, linewidth=linewidth)


def draw_gram_panel(panel, items, teacher, student, names, labels, loss):
    """What the intra and the local structure share: features [items, width], their Gram matrices, and one CKA.

    ``labels`` are those of the teacher's features, of the student's, and of a Gram matrix; ``names`` those of its rows.
    """
    panel.items(*items)
    gram_cell, cell = 15, 9
    teacher_left, size = 52, gram_cell * len(teacher)
    student_left = PANEL_WIDTH - 16 - size
    panel.sides(teacher_left + size / 2, student_left + size / 2)
    *feature_labels, gram_label = labels
    sides = ((teacher_left, teacher, TEACHER), (student_left, student, STUDENT))
    for (left, x, color), feature_label in zip(sides, feature_labels, strict=True):
        middle, width = left + size / 2, cell * x.shape[1]
        panel.matrix(middle - width / 2, 189, x, (cell, cell), color)
        panel.text(middle, 245, feature_label, 12)
        panel.arrow((middle, 258), (middle, 282), color)
        panel.matrix(left, 288, centered_gram(x), (gram_cell, gram_cell), color)
        panel.text(middle, 380, gram_label, 12)
    panel.row_names(teacher_left - 4, 288, names, gram_cell, 10.5)
    middle = panel.compare(teacher_left + size, student_left, 288 + size / 2, "CKA")
    panel.loss(middle, 288 + size / 2 + 11, *loss)


def draw_intra(axes):
    """Panel I: the tokens of one example."""
    panel = Panel(axes, PANEL_LEFTS[0], "FSD_I", "inside an example ($L_I$)", "Which tokens are alike?")
    centres, groups = [[1.2, 0, 0], [0, 0.6, -0.3], [0, -0.8, 1.3]], (0, 1, 2, 2, 0)
    draw_gram_panel(
        panel, ("one example, $S$ tokens", TOKENS), features(centres, groups, 10, 8), features(centres, groups, 6, 17), TOKENS,
        (r"$H_T[b]$:  $S\,×\,d_T$", r"$H_S[b]$:  $S\,×\,d_S$", r"tokens: $S\,×\,S$"),
        (r"$L_I = -\log\,\mathrm{CKA}$", "averaged over the examples"),
    )


def draw_local(axes):
    """Panel L: the examples of a batch."""
    panel = Panel(axes, PANEL_LEFTS[1], "FSD_L", "between the examples of a batch ($L_L$)", "Which examples are alike?")
    centres, groups = [[1, 0.2, 0], [-0.9, 0.3, 0.4]], (0, 0, 0, 1, 1)
    draw_gram_panel(
        panel, ("one batch, $B$ examples", EXAMPLES), features(centres, groups, 12, 5), features(centres, groups, 8, 8), "12345",
        (r"$H_T$:  $B\,×\,S·d_T$", r"$H_S$:  $B\,×\,S·d_S$", r"examples: $B\,×\,B$"),
        (r"$L_L = -\log\,\mathrm{CKA}$", "once for the whole batch"),
    )


def relations(points, centroids):
    """Distances and cosines [B, K] of points to centroids, in the drawn plane."""
    distances = np.linalg.norm(points[:, None] - centroids, axis=-1)
    norms = np.linalg.norm(points, axis=1)[:, None] * np.linalg.norm(centroids, axis=1)
    return distances, points @ centroids.T / norms


def draw_space(panel, x, points, centroids, color, filled):
    """Examples as numbered discs and centroids as diamonds; distances and one angle of the first example."""
    def place(point):
        return panel.left + x + point[0] * SPACE_WIDTH, SPACE_TOP + (1 - point[1]) * SPACE_HEIGHT

    def line(start, end, **style):
        (x0, y0), (x1, y1) = place(start), place(end)
        panel.axes.plot([x0, x1], [y0, y1], solid_capstyle="round", **style)

    origin, first, partner = np.zeros(2), points[0], centroids[1]
    for centroid in centroids:
        line(first, centroid, color=color, linewidth=1.2, zorder=2)
    for end in (first, partner):
        line(origin, end, color=RULE, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    (x0, y0), (x1, y1), (x2, y2) = place(origin), place(first), place(partner)
    low, high = (np.degrees(np.arctan2(y0 - y, x - x0)) for x, y in ((x2, y2), (x1, y1)))
    # The axes' heights grow downwards, which mirrors the arc's angles.
    panel.axes.add_patch(Arc((x0, y0), 44, 44, theta1=-high, theta2=-low, color=INK, linewidth=1.2))
    for centroid in centroids:
        panel.axes.plot(
            *place(centroid), marker="D", markersize=7, color=MEMORY if filled else "white", markeredgecolor=MEMORY,
            markeredgewidth=1.6, zorder=4,
        )
    panel.text(x + 47, SPACE_TOP + SPACE_HEIGHT - 15, "cosine", 10, color=SOFT)
    panel.text(x + 86, SPACE_TOP + 36, "distance", 10, color=SOFT)
    panel.axes.plot(
        *np.transpose([place(point) for point in points]), "o", markersize=10, color=color, markeredgecolor="white",
        markeredgewidth=0.8, zorder=3,
    )
    for number, point in enumerate(points, start=1):
        cx, cy = place(point)
        panel.text(cx - panel.left, cy + 0.3, str(number), 9, color="white", weight="bold", zorder=5)


def draw_global(axes):
    """Panel G: the examples of a batch relative to the centroids of the two memories."""
    panel = Panel(axes, PANEL_LEFTS[2], "FSD_G", "relative to a memory ($L_G$)", "Which centroids is each example near?")
    panel.items("one batch, and $K$ centroids", EXAMPLES)
    cell, gap, left = (12, 12), 16, 24
    size = 6 * cell[0] + gap
    student_left = PANEL_WIDTH - 16 - size
    panel.sides(left + size / 2, student_left + size / 2)
    sides = (
        (left, POINTS, CENTROIDS, TEACHER, True, "$M_T$: fixed"),
        (student_left, STUDENT_POINTS, STUDENT_CENTROIDS, STUDENT, False, "$M_S$: learnt"),
    )
    for x, points, centroids, color, filled, memory_label in sides:
        middle = x + size / 2
        draw_space(panel, middle - SPACE_WIDTH / 2, points, centroids, color, filled)
        panel.text(middle, 296, memory_label, 11.5, color=MEMORY, weight="bold")
        panel.arrow((middle, 306), (middle, 322), color)
        headed = (x, "distances"), (x + 3 * cell[0] + gap, "cosines")
        for values, (matrix_left, name) in zip(relations(points, centroids), headed, strict=True):
            panel.text(matrix_left + 1.5 * cell[0], 330, name, 10.5, color=SOFT)
            panel.matrix(matrix_left, 338, values, cell, color)
        panel.text(middle, 409, r"each $B\,×\,K$", 12)
    panel.row_names(left - 5, 338, "12345", cell[1], 10)
    panel.compare(left + size / 2 + 36, student_left + size / 2 - 36, 296, "CKA", MEMORY)
    middle = panel.compare(left + size, student_left, 338 + 2.5 * cell[1], "MSE")
    panel.loss(
        middle, 338 + 2.5 * cell[1] + 11,
        r"$L_G = \gamma_m\,\mathrm{MSE}_\mathrm{distances} + (1-\gamma_m)\,\mathrm{MSE}_\mathrm{cosines}$",
        r"$-\,\log\,\mathrm{CKA}(M_S, M_T)$",
    )


def draw_legend(axes):
    """What the three colours mean, below the panels."""
    entries = (
        (36, "s", TEACHER, "teacher: fine-tuned, fixed"), (306, "s", STUDENT, "student: fewer layers, trained"),
        (604, "D", MEMORY, "memory: centroids, $M_T$ by k-means"),
    )
    for x, marker, color, words in entries:
        axes.plot(x, HEIGHT - 23, marker=marker, markersize=8, color=color)
        axes.text(x + 14, HEIGHT - 23, words, fontsize=12.5 * PIXEL, color=INK, va="center")


def compact(svg):
    """The same picture in fewer bytes: no comments, indents or unused names, and no digits that nobody can see."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?:figure|axes|patch|text|line2d)_\d+"', "", svg)
    svg = re.sub(r' d="[^"]*"', lambda outline: re.sub(r"(\.\d\d)\d+", r"\1", outline[0]), svg)
    svg = re.sub(r'(<use [^>]*translate\()([-.\d]+)', lambda glyph: f"{glyph[1]}{float(glyph[2]):.0f}", svg)
    return re.sub(r"\s*\n\s*", "\n", svg.replace("DejaVuSans-", "f-"))


def draw(path):
    """Write the figure to path."""
    matplotlib.rcParams.update({
        "svg.fonttype": "path", "svg.hashsalt": "fsd", "font.family": "DejaVu Sans", "mathtext.fontset": "dejavusans",
    })
    figure = Figure(figsize=(WIDTH / 96, HEIGHT / 96), facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0), aspect="equal")
    axes.axis("off")
    axes.add_patch(rounded(1, 1, WIDTH - 2, HEIGHT - 2, 12, "#D0D7DE"))
    draw_intra(axes)
    draw_local(axes)
    draw_global(axes)
    draw_legend(axes)
    for artist in axes.get_children():
        artist.set_clip_on(False)
    is_svg = path.suffix == ".svg"
    figure.savefig(path, dpi=192, metadata={"Date": None, "Creator": None} if is_svg else None)
    if is_svg:
        path.write_text(compact(path.read_text(encoding="utf-8")), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("structures.svg"), help="the figure's file")
    draw(parser.parse_args().output)


if __name__ == "__main__":
    main()
