"""Runs the cells of docs/tour.ipynb in order, and stores in it what they print and draw. This needs no Jupyter.

    OMP_NUM_THREADS=1 python docs/run_tour.py

Equal figures give equal bytes. The times that the cells print differ from run to run.
"""

import base64
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib

TOUR = Path(__file__).with_name("tour.ipynb")
DPI = 100  # sharp enough on a web page, and all figures together stay small


def run(notebook):
    """Run the code cells of a notebook (the content of its file) in one set of names, and put their outputs into it.

    Returns:
        The names at the end.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = {"__name__": "__main__"}
    with matplotlib.rc_context():  # the cells change the style
        for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
            with redirect_stdout(io.StringIO()) as printed:
                exec(compile("".join(cell["source"]), f"code cell {number}", "exec"), names)
            cell["execution_count"] = number
            cell["outputs"] = stream(printed.getvalue()) + [picture(pyplot.figure(at)) for at in pyplot.get_fignums()]
            pyplot.close("all")
    return names


def stream(text):
    """The outputs of a cell that printed this text."""
    return [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}] if text else []


def picture(figure):
    """The output of a cell that drew this figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": [repr(figure)]}
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def main():
    notebook = json.loads(TOUR.read_text(encoding="utf-8"))
    run(notebook)
    TOUR.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
