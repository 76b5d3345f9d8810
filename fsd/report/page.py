"""One page with all that a reproduction found: an HTML file that needs no other file, no script and no network."""

import base64
import html

from fsd.report.markdown import markdown, table
from fsd.report.names import NAMES
from fsd.report.runs import of
from fsd.report.style import SIGNATURE
from fsd.report.table import FIRST_LINES
from fsd.system.errors import InputError
from fsd.system.files import begins_with, write_text

DOI = "10.1016/j.eswa.2023.120980"
CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #57606a; --rule: #d0d7de; --paper: #ffffff; --panel: #f6f8fa;
  --link: #0056a3; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b3; --rule: #3d444d; --paper: #0d1117;
  --panel: #161b22; --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); }
a { color: var(--link); }
nav ul { padding-left: 1.2rem; columns: 18rem; }
.wide { overflow-x: auto; margin: .6rem 0; }
.wide:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--rule); text-align: left; white-space: nowrap; }
.number { text-align: right; }
thead th, thead td { background: var(--panel); vertical-align: bottom; }
figure { margin: 1rem 0 2rem; }
figure .wide { background: #ffffff; border: 1px solid var(--rule); border-radius: 6px; padding: .5rem; }
p, ul, figcaption { max-width: 48rem; }
img { display: block; width: 100%; min-width: 38rem; max-width: 54rem; height: auto; }
figcaption { color: var(--soft); font-size: .9rem; }
@media print {
  :root { --ink: #000000; --soft: #333333; --rule: #999999; --paper: #ffffff; --panel: #ffffff; --link: #000000; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .wide { overflow: visible; } figure .wide { border: 0; padding: 0; }
  img { width: auto; min-width: 0; max-width: 100%; max-height: 22cm; }
  p, ul, figcaption { max-width: none; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  table { font-size: 8pt; } th, td { padding: .15rem .3rem; white-space: normal; }
}
"""


def write_report(path, reproduction, drawings, left_out, tables):
    """Write the page.

    Args:
        path: the HTML file; the pictures ``NAME.png`` of ``drawings`` lie beside it.
        left_out: lines about the figures that are missing.
        tables: (name, HTML) of each table, as :func:`read_tables` gives them.
    """
    titles = {name: name.replace("table", "Table ", 1).replace("-", " ") for name, _ in tables}
    parts = [(f"{name}-as-table", titles[name][0].upper() + titles[name][1:], body) for name, body in tables]
    sections = [f'<section id="{name}">\n<h2>{title}</h2>\n{body}\n</section>' for name, title, body in parts]
    sections += [figure_section(drawing, path.parent) for drawing in drawings]
    if left_out:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in left_out)
        sections.append(f'<section id="missing"><h2>Left out</h2>\n<ul>{lines}</ul></section>')
    links = [(name, title) for name, title, _ in parts]
    links += [(drawing.name, html.escape(drawing.title)) for drawing in drawings]
    contents = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in links)
    body = "\n".join(sections)
    write_text(path, f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="{SIGNATURE}">
<title>Feature structure distillation: the reproduction</title>
<style>{CSS}</style>
</head>
<body>
<header>
<h1>Feature structure distillation: the reproduction</h1>
{summary(reproduction)}
</header>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
<main>
{body}
</main>
</body>
</html>
""")


def summary(reproduction):
    """What was run: tasks, methods, seeds, runs, teachers, and the paper."""
    students = reproduction.students.dropna(subset=["score"])
    seeds = [f"{seed:.0f}" for seed in sorted(students["seed"].dropna().unique())]
    chosen = {"dev": "on the development sets, which also give the scores: the scores are too high by that",
              "held-out": "on training data held out for it"}.get(reproduction.selected_on)
    lines = [
        f'Reproduces Jung, Kim, Na, Kim: <cite>Feature structure distillation with Centered Kernel Alignment in BERT '
        f'transferring</cite>, Expert Systems with Applications 234 (2023) 120980, '
        f'<a href="https://doi.org/{DOI}">doi:{DOI}</a>.',
        f"Student runs: {len(students)}. Methods: {students['method'].nunique()}. Tasks: {len(reproduction.tasks())}. "
        f"Seeds: {', '.join(seeds) or 'none'}. Analysed models: {len(reproduction.main_analyses)}. "
        f"Failed cells: {len(reproduction.failed)}. {NAMES}",
    ]
    if chosen:
        lines.append(f"Hyper-parameters were chosen {chosen}.")
    return "\n".join(f"<p>{line}</p>" for line in lines) + overview(reproduction)


def overview(reproduction):
    """A table of the tasks: the teacher of each, and the numbers of runs."""
    rows = []
    scored = reproduction.main.dropna(subset=["score"])
    for task in reproduction.tasks():
        teachers = of(scored, task, "teacher")
        students = scored[(scored["task"] == task) & (scored["method"] != "teacher")]
        hashes = sorted(set(students["teacher_hash"]) - {""})
        words = [teacher_words(row) for _, row in teachers.iterrows()] or ["not in the results"]
        if len(hashes) > 1:
            words.append(f"<strong>mixed teachers: {', '.join(html.escape(name[:8]) for name in hashes)}</strong>")
        rows.append([task, str(len(students)), str(students["seed"].nunique()), "<br>".join(words)])
    header = ["Task", "Runs", "Seeds", "Teacher and its score"]
    return table(header, rows, "Tasks, teachers and numbers of runs", {1, 2}) if rows else ""


def teacher_words(row):
    """A teacher in words: from which model, how large, its score."""
    start = html.escape(row["copied_from"].rstrip("/").rsplit("/", 1)[-1] or "a pretrained model")
    layers = f", {row['student_layers']:.0f} layers" if row["student_layers"] > 0 else ""
    width = f" of {row['student_hidden_size']:.0f}" if row["student_hidden_size"] > 0 else ""
    return f"{start}{layers}{width}: {100 * row['score']:.2f}"


def figure_section(drawing, folder):
    """A figure with its picture inside the page."""
    picture = base64.b64encode((folder / f"{drawing.name}.png").read_bytes()).decode()
    title, alt, caption = (html.escape(words) for words in (drawing.title, drawing.alt, drawing.caption))
    return (f'<section id="{drawing.name}">\n<h2>{title}</h2>\n<figure><div class="wide" role="region" tabindex="0" '
            f'aria-label="{title}"><img alt="{alt}" src="data:image/png;base64,{picture}"></div>\n'
            f"<figcaption>{caption}</figcaption></figure>\n</section>")


def read_tables(folder):
    """(name, HTML) of each table file of make_tables.py, by number. Other files are left out.

    The folder need not exist.

    Raises:
        InputError: a file is no text.
    """
    found = []
    for path in sorted(folder.glob("*.md"), key=lambda path: (len(path.stem), path.stem)):
        if begins_with(path, FIRST_LINES["md"]):
            try:
                found.append((path.stem, markdown(path.read_text(encoding="utf-8"), path.stem)))
            except UnicodeDecodeError as error:
                raise InputError(f"cannot read {path}: {error}; make the tables again") from error
    return found
