"""The notebook: its cells run from top to bottom without Jupyter, and its file is what Jupyter and GitHub expect."""

import ast
import base64
import json
import re
import runpy

import pytest
from conftest import ROOT

TOUR = ROOT / "docs" / "tour.ipynb"


@pytest.fixture
def notebook():
    """The content of the file, read anew for each test."""
    return json.loads(TOUR.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(notebook):
    """For each code cell, the kinds of its outputs."""
    return [[output["output_type"] for output in cell["outputs"]] for cell in code_cells(notebook)]


def test_the_cells_run(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored = kinds(notebook)
    first = "".join(code_cells(notebook)[0]["source"])
    short, count = re.subn(r"^STEPS = \d+", "STEPS = 4", first, flags=re.MULTILINE)
    assert count == 1
    code_cells(notebook)[0]["source"] = [short]
    names = runpy.run_path(str(ROOT / "docs" / "run_tour.py"))["run"](notebook)
    names["folder"].cleanup()
    assert kinds(notebook) == stored  # all printed and drawn, as in the file
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_nbformat_4(notebook):
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"].keys() >= {"name", "display_name"}
    assert notebook["metadata"]["language_info"]["name"] == "python"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", name, re.ASCII) for name in ids)
    for cell in notebook["cells"]:
        outputs = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell["cell_type"] in ("code", "markdown") and set(cell) == {"cell_type", "id", "metadata", "source"} | outputs
        assert all(line.endswith("\n") for line in cell["source"][:-1]) and cell["source"][-1].strip()
    assert [cell["execution_count"] for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))


def test_the_stored_outputs(notebook):
    pictures = 0
    for output in (output for cell in code_cells(notebook) for output in cell["outputs"]):
        if output["output_type"] == "stream":
            assert set(output) == {"name", "output_type", "text"} and output["name"] == "stdout"
            assert not re.search(r"(^|\s)/\w|Traceback", "".join(output["text"])), "an absolute path or an error"
        else:
            assert set(output) == {"data", "metadata", "output_type"} and output["output_type"] == "display_data"
            picture = base64.b64decode(output["data"]["image/png"], validate=True)
            assert picture.startswith(b"\x89PNG")
            pictures += len(picture)
    assert 0 < pictures < 300_000


def test_the_cells_are_plain_python(notebook):
    silent = {"print", "run", "plt.show", "plt.rcParams.update", "logging.disable_progress_bar"}
    for cell in code_cells(notebook):
        last = ast.parse("".join(cell["source"])).body[-1]  # a magic or a shell escape would not parse
        # Jupyter shows the value of a last line; docs/run_tour.py does not store it.
        assert not isinstance(last, ast.Expr) or ast.unparse(last).split("(")[0] in silent


def test_every_link_leads_somewhere(notebook):
    text = "".join(line for cell in notebook["cells"] if cell["cell_type"] == "markdown" for line in cell["source"])
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert links and all((TOUR.parent / link).is_file() for link in links)
