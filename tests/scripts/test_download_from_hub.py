"""download_glue.py --source hub: small parquet files of the hub's layout, from a server on loopback that plays the hub."""

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pandas
import pytest
from loopback import serving

from fsd.glue.files import read_split
from fsd.glue.hub_files import parquet_name
from fsd.glue.tasks import TASKS, find_task

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = {"train": 4, "dev": 2, "dev-mm": 2, "test": 3, "test-mm": 3, "ax": 3}
TEXTS = {"MNLI": ("premise", "hypothesis"), "MRPC": ("sentence1", "sentence2")}
# Runs the script with the small row counts in place of the official ones.
RUN = f"""
import runpy, sys
from fsd.glue.tasks import TASKS
for task in TASKS:
    task.rows.update({{split: {ROWS}[split] for split in task.rows}})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
spec = importlib.util.spec_from_file_location("download_glue", ROOT / "scripts/download_glue.py")
download_glue = importlib.util.module_from_spec(spec)
spec.loader.exec_module(download_glue)


def frame(task, split):
    """The hub's columns of a split; with a quote, a hard space and an accent in the texts."""
    count = ROWS[split]
    columns = {name: [f'"{name} {at}\u00a0é ' for at in range(count)] for name in TEXTS.get(task.name, task.text_columns)}
    if split in task.test_splits:
        columns["label"] = [-1] * count
    elif task.regression:
        columns["label"] = pandas.Series([5.0, 2.8571429, 0.6, 3.8][:count], dtype="float32")
    else:
        columns["label"] = [at % len(task.labels) for at in range(count)]
    return pandas.DataFrame(columns | {"idx": range(count)})


def parquet(content):
    """A frame as the bytes of a parquet file."""
    return content.to_parquet(index=False, engine="pyarrow")


class Hub(http.server.BaseHTTPRequestHandler):
    """Plays the hub's address of a data set's file; ``server.files`` are by path, of any revision in ``server.revisions``."""

    def answer(self):
        self.server.asked.append(self.path)
        start, _, rest = self.path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        content = self.server.files.get(name) if start == "/datasets/nyu-mll/glue" and revision in self.server.revisions else None
        if content is None:
            kind = "EntryNotFound" if revision in self.server.revisions else "RevisionNotFound"
            self.send_response(404)
            self.send_header("X-Error-Code", kind)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(200)
        for header, value in (("X-Repo-Commit", COMMIT), ("ETag", f'"{zlib.crc32(content)}"'), ("Content-Length", len(content))):
            self.send_header(header, str(value))
        self.end_headers()
        return content

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        if content := self.answer():
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with serving(Hub) as server:
        server.asked, server.revisions = [], {"main", "v1", COMMIT}
        server.files = {parquet_name(task, split): parquet(frame(task, split)) for task in TASKS for split in task.files}
        yield server


@pytest.fixture
def download(hub, tmp_path):
    """Call ``download(flags…)``: the script with --source hub, in a process of its own, whose hub is the server."""

    def run(*flags, data_dir=tmp_path / "glue", **environment):
        source = () if "--source" in flags else ("--source", "hub")
        command = [sys.executable, "-c", RUN, ROOT / "scripts/download_glue.py", "--data_dir", data_dir, *source, *flags]
        kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        kept |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]), "HF_HUB_OFFLINE": "0"}
        kept |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path / "cache")}
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=kept | environment, timeout=300)

    return run


def test_all_nine_tasks_and_the_diagnostic_set_are_read_as_the_official_files(download, tmp_path):
    ended = download()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for task in TASKS:
        for split in task.files:
            read, given = read_split(task, tmp_path / "glue", split), frame(task, split)
            names = TEXTS.get(task.name, task.text_columns)
            assert read.texts_a == list(given[names[0]]) and read.texts_b == (list(given[names[1]]) if task.pair else None)
            if split in task.test_splits:
                assert read.index == [str(at) for at in range(ROWS[split])]
            elif task.name == "MNLI":
                names = ["entailment", "neutral", "contradiction", "entailment"]
                assert [task.labels[label] for label in read.labels] == names[:ROWS[split]]
            else:
                assert read.labels == pytest.approx(list(given["label"]))
    records = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "glue").glob("*/hub.json")}
    assert records.keys() == {task.name for task in TASKS} | {"AX"}
    assert records["RTE"] == dict.fromkeys(("train.tsv", "dev.tsv", "test.tsv"), {
        "repository": "nyu-mll/glue", "revision": "main", "commit": COMMIT})


def test_files_that_have_nothing_but_what_the_hub_has_are_those_of_the_official_address(download, tmp_path):
    assert download("--tasks", "RTE", "SST-2", "STS-B").returncode == 0
    assert (tmp_path / "glue/RTE/train.tsv").read_bytes().decode().splitlines(keepends=True)[:2] == [
        "index\tsentence1\tsentence2\tlabel\n", '0\t"sentence1 0\u00a0é \t"sentence2 0\u00a0é \tentailment\n']
    sst = (tmp_path / "glue/SST-2/dev.tsv").read_bytes().decode()
    assert sst == 'sentence\tlabel\n"sentence 0\u00a0é \t0\n"sentence 1\u00a0é \t1\n'
    scores = [line.split("\t")[-1] for line in (tmp_path / "glue/STS-B/train.tsv").read_text().splitlines()]
    assert scores == ["score", "5.000", "2.857143", "0.600", "3.800"]


def test_a_revision_is_taken_and_recorded(download, hub, tmp_path):
    assert download("--tasks", "WNLI", "--revision", "v1").returncode == 0
    assert json.loads((tmp_path / "glue/WNLI/hub.json").read_text())["dev.tsv"]["revision"] == "v1"
    # The files after the first are of the commit that the first one had.
    resolved = [path.partition("/resolve/")[2] for path in hub.asked if "/resolve/" in path]
    assert {path.split("/")[0] for path in resolved} == {"v1", COMMIT}
    refused = download("--tasks", "RTE", "--revision", "v2")
    assert refused.returncode == 2 and "RTE: FAILED" in refused.stdout and "check --revision" in refused.stdout
    assert len(refused.stdout.splitlines()) == len(refused.stderr.splitlines()) == 1


def test_what_is_there_is_kept_and_only_what_lacks_is_recorded_anew(download, hub, tmp_path):
    assert download("--tasks", "RTE").returncode == 0
    asked = len(hub.asked)
    assert "complete, nothing fetched" in download("--tasks", "RTE").stdout and len(hub.asked) == asked
    record = tmp_path / "glue/RTE/hub.json"
    record.unlink()
    (tmp_path / "glue/RTE/dev.tsv").unlink()
    assert download("--tasks", "RTE").returncode == 0
    assert list(json.loads(record.read_text())) == ["dev.tsv"]


def test_files_of_the_official_address_have_no_entry(tmp_path):
    source = {"repository": "nyu-mll/glue", "revision": "main", "commit": COMMIT}
    download_glue.record_source(tmp_path, download_glue.known_sources(tmp_path), ["train.tsv", "dev.tsv"], source)
    download_glue.record_source(tmp_path, download_glue.known_sources(tmp_path), ["dev.tsv"], None)
    assert json.loads((tmp_path / "hub.json").read_text()) == {"train.tsv": source}
    download_glue.record_source(tmp_path, download_glue.known_sources(tmp_path), ["train.tsv"], None)
    assert not (tmp_path / "hub.json").exists()


def too_few(task):
    return frame(task, "train").iloc[1:]


def unknown_label(task):
    return frame(task, "train").assign(label=2)


def without_labels(task):
    return frame(task, "train").drop(columns="label")


def empty_cell(task):
    return frame(task, "train").assign(sentence1=None)


def line_break(task):
    return frame(task, "train").assign(sentence1="one\ntwo")


@pytest.mark.parametrize(("spoil", "reason"), [
    (too_few, "RTE/train.tsv: 3 rows, but the official file has 4"), (unknown_label, "row 0: the label 2 is none of RTE's"),
    (without_labels, "cannot read it"), (empty_cell, "a cell is empty"), (line_break, "not the official data"),
    (None, "cannot read it"),
])
def test_what_is_not_glue_is_refused_in_one_line_and_leaves_nothing(download, hub, tmp_path, spoil, reason):
    name = parquet_name(find_task("RTE"), "train")
    hub.files[name] = parquet(spoil(find_task("RTE"))) if spoil else b"PAR1 no more"
    refused = download("--tasks", "RTE")
    (line,) = refused.stdout.splitlines()
    assert refused.returncode == 2 and line.startswith("RTE: FAILED: ") and reason in line
    assert refused.stderr == "download_glue.py: error: 1 of 1 not fetched: RTE (reasons above)\n"
    assert os.listdir(tmp_path / "glue") == []


def test_offline_is_one_line_and_the_cache_is_enough(download, hub, tmp_path):
    refused = download("--tasks", "WNLI", HF_HUB_OFFLINE="1")
    (line,) = refused.stdout.splitlines()
    assert refused.returncode == 2 and line.startswith("WNLI: FAILED: nyu-mll/glue: wnli/train-") and hub.asked == []
    assert download("--tasks", "WNLI").returncode == 0
    asked = len(hub.asked)
    again = download("--tasks", "WNLI", data_dir=tmp_path / "again", HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and len(hub.asked) == asked
    assert (tmp_path / "again/WNLI/hub.json").read_text() == (tmp_path / "glue/WNLI/hub.json").read_text()


@pytest.mark.parametrize(("flags", "reason"), [
    (["--source", "hub", "--base_url", "http://127.0.0.1:9"], "--base_url and --mrpc_dir belong to the official source"),
    (["--source", "official", "--revision", "v1"], "--revision needs --source hub"), (["--source", "elsewhere"], "--source"),
])
def test_flags_that_do_not_go_together(download, tmp_path, flags, reason):
    refused = download(*flags)
    assert refused.returncode == 2 and reason in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "glue").exists()


def test_without_pyarrow_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(download_glue.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(download_glue.InputError, match="--source hub needs pyarrow.* pip install pyarrow"):
        download_glue.main(["--data_dir", str(tmp_path / "glue"), "--source", "hub"])
    assert not (tmp_path / "glue").exists()
