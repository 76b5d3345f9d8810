"""What make_tables.py says of a reproduction whose files are damaged or missing."""

import json
from functools import partial

import pytest
from made_up_rows import analysis, row, write_reproduction


@pytest.fixture
def repro(tmp_path):
    """Call ``repro(rows, analyses=…, failed=…, chosen=…)``: a folder as scripts/reproduce.py leaves it."""
    return partial(write_reproduction, tmp_path / "repro")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("results.csv", "name,age\nBob,3\n", "results.csv:1: its columns are not this program's"),
    ("results.csv", "task,method,acc\nRTE,KD\n", "results.csv:2: 2 fields instead of 3"),
    ("results.csv", "task,method,acc\nRTE,KD,high\n", "results.csv: row 1: acc: 'high' is not a finite number"),
    ("results.csv", "task,method,acc\nRTE,KD,nan\n", "results.csv: row 1: acc: 'nan' is not a finite number"),
    ("results.csv", "task,method,acc\nRTE,KD,62.5\n", "results.csv: row 1: acc is 62.5; a score is a fraction"),
    ("results.csv", "task,method,role,acc\nRTE,KD,Student,0.5\n", "row 1: role is 'Student'; write student or teacher"),
    ("results.csv", "task,method,acc\nTREC,KD,0.5\n", "results.csv: row 1: the task 'TREC' is not of GLUE"),
    ("results.csv", None, "neither results.csv nor analysis/*.json is in it"),
    ("failed.json", "{", "failed.json as JSON"),
    ("failed.json", "[1]", "failed.json does not map cells"),
    ("chosen.toml", "a = = 1", "chosen.toml is not readable as TOML"),
    ("analysis/x.json", "{", "analysis/x.json as JSON"),
    ("analysis/x.json", "[]", "analysis/x.json: its content is missing or damaged"),
    ("analysis/x.json", '{"task": "RTE"}', "analysis/x.json: its method is missing or damaged"),
    ("analysis/x.json", json.dumps(analysis("KD", 1, cka={"mean_diagonal": "x"})), "x.json: its cka is missing or damaged"),
    ("tables/table3.md", "# my table", "tables/table3.md is not of this program"),
    ("benchmark.json", '{"tables": {}}', "benchmark.json has no table of methods"),
    ("benchmark.json", "[", "benchmark.json as JSON"),
    ("benchmark.json", '{"tables": {"methods": [{"size": "s", "method": "KD", "options": "", "ms": 1, "ratio": 0}]}}',
     "benchmark.json has no table of methods"),
])
def test_what_is_wrong_is_told_in_one_line(repro, run_script, name, content, message):
    folder = repro([row("KD", 1, acc=0.6)])
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    flags = ["--benchmark", path] if name == "benchmark.json" else []
    ended = run_script("scripts/make_tables.py", "--results", folder, "--output_dir", folder / "tables", *flags)
    assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1 and message in ended.last_line, ended.err
    if not name.startswith(("tables/", "benchmark")):
        assert f"error: --results {folder}: " in ended.err and "--results_file" not in ended.err
    assert not (folder / "tables/table2.md").exists() and (content is None or path.read_text() == content)


def test_a_folder_that_is_not_there(run_script, tmp_path):
    ended = run_script("scripts/make_tables.py", "--results", tmp_path / "none", "--output_dir", tmp_path / "tables")
    assert ended.status == 2 and "no such folder" in ended.last_line and not (tmp_path / "tables").exists()
