"""A table of numbers, and how it is written: as Markdown, LaTeX (booktabs) and CSV."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas

from fsd.system.files import check_folder, check_ours, write_text

SIGNATURE = "written by scripts/make_tables.py"
CSV_COLUMNS = ["row", "source", "column", "value", "sd", "runs", "best", "significant"]
FIRST_LINES = {"md": f"<!-- {SIGNATURE} -->", "tex": f"% {SIGNATURE}; needs the package booktabs", "csv": ",".join(CSV_COLUMNS)}
NOT_ALWAYS = ("own-tasks", "settings")  # names of tables that only some reproductions have
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "<": "$<$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "†": r"$^\dagger$", "×": r"$\times$", "−": "$-$", "–": "--", "→": r"$\to$", "≈": r"$\approx$",
}


@dataclass
class Value:
    """One number: a mean, its standard deviation and number of runs where it has them, and how it is marked."""

    mean: float | None
    sd: float | None = None
    runs: int | None = None
    bold: bool = False
    dagger: bool = False

    def text(self, digits):
        """The number as print shows it: "66.61 ± 1.01 (6)"; nothing without a mean."""
        if self.mean is None:
            return ""
        tiny = 0 < self.mean < 0.5 * 10**-digits
        text = f"<{10**-digits:.{digits}f}" if tiny else f"{self.mean:.{digits}f}"
        if self.sd is not None:
            text += f" ± {self.sd:.{digits}f}"
        if self.runs is not None:
            text += f" ({self.runs})"
        return text.replace("-", "−") + ("†" if self.dagger else "")


@dataclass
class Line:
    """One line of a table: the row that it belongs to, whose numbers they are, and the numbers by column."""

    row: str
    source: str
    values: dict
    digits: int = 2


@dataclass
class Table:
    """A table: the name of its files, its caption, columns and lines, and the notes below it."""

    name: str
    caption: str
    columns: list
    lines: list
    notes: list = field(default_factory=list)

    def cells(self):
        """(row's label, source, [(text, bold)] by column) of each line; a label stands at its row's first line only."""
        last = None
        for line in self.lines:
            values = [line.values.get(column, Value(None)) for column in self.columns]
            texts = [(value.text(line.digits), value.bold) for value in values]
            yield ("" if line.row == last else line.row), line.source, texts
            last = line.row

    def markdown(self):
        """The table as Markdown, its notes a list below it."""
        rows = [["", "", *self.columns], ["---", "---", *["---:"] * len(self.columns)]]
        for label, source, texts in self.cells():
            rows.append([label, source, *(f"**{text}**" if bold and text else text for text, bold in texts)])
        lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([FIRST_LINES["md"], "", f"**{self.caption}**", "", *lines, "", *notes]).rstrip() + "\n"

    def latex(self):
        """The table as a LaTeX table over both columns of a page, its notes below it."""
        body, first = [], True
        for label, source, texts in self.cells():
            if label and not first:
                body.append(r"\addlinespace")
            cells = [rf"\textbf{{{_latex(text)}}}" if bold and text else _latex(text) for text, bold in texts]
            body.append(" & ".join([_latex(label), _latex(source), *cells]) + r" \\")
            first = False
        header = " & ".join(["", "", *map(_latex, self.columns)]) + r" \\"
        return "\n".join([
            FIRST_LINES["tex"], r"\begin{table*}", r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_latex(self.caption)}}}", rf"\label{{tab:fsd-{self.name}}}",
            rf"\begin{{tabular}}{{ll{'r' * len(self.columns)}}}", r"\toprule", header, r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", *(rf"\par\smallskip\raggedright {_latex(note)}" for note in self.notes), r"\end{table*}", "",
        ])

    def csv(self):
        """The numbers as CSV, one row a number, at full precision and without the notes."""
        rows = [(line.row, line.source, column, value.mean, value.sd, value.runs, value.bold, value.dagger)
                for line in self.lines for column, value in line.values.items() if value.mean is not None]
        frame = pandas.DataFrame(rows, columns=CSV_COLUMNS).astype({"runs": "Int64"})
        return frame.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def write_tables(tables, folder):
    """Write each table as .md, .tex and .csv into ``folder``. Returns the Markdown files' paths.

    Files of ``NOT_ALWAYS`` that an earlier call wrote and this one does not are removed.

    Raises:
        InputError: ``folder`` cannot be written to, or another program's file has such a name; nothing is written then.
    """
    folder = Path(folder)
    check_folder(folder, f"--output_dir {folder}")
    names = [table.name for table in tables]
    for name in dict.fromkeys((*names, *NOT_ALWAYS)):
        for kind in FIRST_LINES:
            check_ours(folder / f"{name}.{kind}", FIRST_LINES[kind], at_start=True)
    for name in set(NOT_ALWAYS) - set(names):
        for kind in FIRST_LINES:
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
    for table in tables:
        for kind, text in (("md", table.markdown()), ("tex", table.latex()), ("csv", table.csv())):
            write_text(folder / f"{table.name}.{kind}", text)
    return [folder / f"{name}.md" for name in names]


def _latex(text):
    """``text`` with LaTeX's special characters escaped."""
    return re.sub("|".join(map(re.escape, LATEX)), lambda match: LATEX[match.group()], text)
