"""The download script against a server on loopback with small archives made here."""

import http.server
import importlib.util
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from loopback import serving

from fsd.glue.files import read_split
from fsd.glue.tasks import TASKS, find_task
from fsd.system.errors import InputError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "download_glue.py"
spec = importlib.util.spec_from_file_location("download_glue", SCRIPT)
download_glue = importlib.util.module_from_spec(spec)
spec.loader.exec_module(download_glue)

ROWS = {"train": 4, "dev": 2, "dev-mm": 2, "test": 3, "test-mm": 3, "ax": 3}
MRPC_HEAD = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"


def tsv(task, split):
    """The official layout of ``split`` with as many rows as ``ROWS`` says."""
    labelled = split not in task.test_splits
    columns = [*task.text_columns, task.label_column] if labelled else [task.index_column, *task.text_columns]
    lines = ["\t".join(columns)]
    if task.name == "CoLA" and labelled:
        lines = []
    for at in range(ROWS[split]):
        label = "2.5" if task.regression else task.file_labels[at % len(task.labels)]
        if task.name == "CoLA" and labelled:
            lines.append(f"gj04\t{label}\t\tsentence {at}")
        else:
            texts = [f"text {at}"] * len(task.text_columns)
            lines.append("\t".join([*texts, label] if labelled else [str(at), *texts]))
    return "\n".join(lines) + "\n"


def archive(task, without=(), extra=()):
    """A zip as the official one: the files in the task's folder, and others that nobody asked for."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{task.name}/original/README.txt", "not wanted")
        for split, name in task.files.items():
            if split != "ax" and split not in without:
                file.writestr(f"{task.name}/{name}", tsv(task, split))
        for member in extra:
            file.writestr(member, "evil")
    return packed.getvalue()


def mrpc_files():
    """The corpus's two original files (byte-order mark, CRLF) and GLUE's list of dev pairs."""
    rows = [f"{at % 2}\t{at}\t{at + 50}\tHe \"said {at}\tShe {at}" for at in range(6)]
    text = "\r\n".join([MRPC_HEAD, *rows]) + "\r\n"
    test = "\r\n".join([MRPC_HEAD, *(f"1\t{at}\t{at + 9}\ta {at}\tb {at}" for at in range(3))]) + "\r\n"
    return {"msr_paraphrase_train.txt": b"\xef\xbb\xbf" + text.encode(),
            "msr_paraphrase_test.txt": b"\xef\xbb\xbf" + test.encode(),
            "mrpc_dev_ids.tsv": b"1\t51\n4\t54\n"}


def official_files():
    files = {download_glue.ARCHIVES.get(task.name, f"{task.name}.zip"): archive(task)
             for task in TASKS if task.name != "MRPC"}
    files |= mrpc_files()
    files["AX.tsv"] = tsv(find_task("MNLI"), "ax").encode()
    return files


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.files``; ``server.cut`` names files whose connection breaks half-way."""

    def do_GET(self):
        name = self.path.removeprefix("/")
        self.server.asked.append(name)
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:len(content) // 2] if name in self.server.cut else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for task in TASKS:
        for split in task.rows:
            monkeypatch.setitem(task.rows, split, ROWS[split])
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(Handler) as server:
        server.files, server.cut, server.asked = official_files(), set(), []
        yield server


def run(server, data_dir, *arguments):
    base_url = f"http://127.0.0.1:{server.server_port}/"
    download_glue.main(["--data_dir", str(data_dir), "--base_url", base_url, *arguments])


def on_disk(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_fetches_all_nine_tasks_and_the_diagnostic_set(server, tmp_path, capsys):
    run(server, tmp_path / "new" / "glue")
    root = tmp_path / "new" / "glue"
    for task in TASKS:
        for split in task.files:
            assert len(read_split(task, root, split).texts_a) == ROWS[split]
    assert len(on_disk(root)) == 9 * 3 + 2 + 1, "the splits and nothing else"
    assert "RTE: train.tsv 4, dev.tsv 2, test.tsv 3" in capsys.readouterr().out


def test_mrpc_is_assembled_from_its_texts_and_the_dev_pairs(server, tmp_path):
    run(server, tmp_path, "--tasks", "mrpc")
    dev = read_split(find_task("MRPC"), tmp_path, "dev")
    assert (dev.texts_a, dev.texts_b, dev.labels) == (['He "said 1', 'He "said 4'], ["She 1", "She 4"], [1, 0])
    assert read_split(find_task("MRPC"), tmp_path, "train").texts_b == ["She 0", "She 2", "She 3", "She 5"]
    assert (tmp_path / "MRPC/test.tsv").read_text().startswith(
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t0\t9\ta 0\tb 0\n1\t1\t10\t")


@pytest.mark.parametrize("ids", ["mrpc_dev_ids.tsv", "dev_ids.tsv", None])
def test_mrpc_from_a_local_folder(server, tmp_path, ids):
    local = tmp_path / "local"
    local.mkdir()
    for name, content in mrpc_files().items():
        if name != "mrpc_dev_ids.tsv":
            (local / name).write_bytes(content)
        elif ids:
            (local / ids).write_bytes(content)
    run(server, tmp_path / "glue", "--tasks", "MRPC", "--mrpc_dir", str(local))
    assert server.asked == ([] if ids else ["mrpc_dev_ids.tsv"])
    assert len(read_split(find_task("MRPC"), tmp_path / "glue", "dev").labels) == 2
    (local / "msr_paraphrase_test.txt").unlink()
    with pytest.raises(InputError, match="MRPC"):
        run(server, tmp_path / "other", "--tasks", "MRPC", "--mrpc_dir", str(local))


def test_what_is_complete_is_not_fetched_again_and_what_lacks_is(server, tmp_path, capsys):
    run(server, tmp_path, "--tasks", "RTE", "WNLI", "AX")
    server.asked.clear()
    run(server, tmp_path, "--tasks", "RTE", "WNLI", "AX")
    assert server.asked == []
    assert "RTE: complete" in capsys.readouterr().out
    (tmp_path / "RTE/dev.tsv").unlink()
    kept = (tmp_path / "RTE/train.tsv").stat().st_mtime_ns
    run(server, tmp_path, "--tasks", "RTE", "WNLI", "AX")
    assert server.asked == ["RTE.zip"]
    assert (tmp_path / "RTE/dev.tsv").is_file() and (tmp_path / "RTE/train.tsv").stat().st_mtime_ns == kept
    run(server, tmp_path, "--tasks", "RTE", "--overwrite")
    assert (tmp_path / "RTE/train.tsv").stat().st_mtime_ns != kept


def test_a_file_of_ones_own_is_kept_unless_told_otherwise(server, tmp_path, capsys):
    (tmp_path / "RTE").mkdir()
    mine = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n"
    (tmp_path / "RTE/train.tsv").write_text(mine)
    with pytest.raises(InputError, match="RTE"):
        run(server, tmp_path, "--tasks", "RTE")
    assert "1 rows, but the official file has 4; --overwrite" in capsys.readouterr().out
    assert (tmp_path / "RTE/train.tsv").read_text() == mine and server.asked == []
    run(server, tmp_path, "--tasks", "RTE", "--overwrite")
    assert len(read_split(find_task("RTE"), tmp_path, "train").labels) == 4


def break_not_found(server):
    del server.files["RTE.zip"]


def break_truncated_zip(server):
    server.files["RTE.zip"] = server.files["RTE.zip"][:-60]


def break_garbage(server):
    server.files["RTE.zip"] = b"<html>moved</html>"


def break_connection(server):
    server.cut.add("RTE.zip")


def break_missing_member(server):
    server.files["RTE.zip"] = archive(find_task("RTE"), without=("dev",))


def break_counts(server):
    find_task("RTE").rows["test"] = 4


def break_slip_up(server):
    server.files["RTE.zip"] = archive(find_task("RTE"), extra=["RTE/../../evil.txt"])


def break_slip_root(server):
    server.files["RTE.zip"] = archive(find_task("RTE"), extra=["/tmp/fsd-evil.txt"])


def break_slip_windows(server):
    server.files["RTE.zip"] = archive(find_task("RTE"), extra=["..\\evil.txt"])


def break_compression(server):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as zipped:
        for split in ("train", "dev", "test"):
            zipped.writestr(f"RTE/{split}.tsv", 100 * "some text ")
    spoiled = bytearray(packed.getvalue())
    spoiled[50:60] = 10 * b"\xff"
    server.files["RTE.zip"] = bytes(spoiled)


@pytest.mark.parametrize("harm, reason", [
    (break_compression, "RTE.zip: not a whole zip archive"),
    (break_not_found, "RTE.zip: the server answers 404 Not Found; take the files from --source hub"),
    (break_truncated_zip, "RTE.zip: not a whole zip archive"),
    (break_garbage, "RTE.zip: not a whole zip archive"),
    (lambda server: server.files.update({"RTE.zip": archive(find_task("RTE"), extra=["é"]).replace("é".encode(), b"\xff\xff")}),
     "RTE.zip: not a whole zip archive"),
    (break_connection, "RTE.zip: the connection broke after"),
    (break_missing_member, "RTE.zip: it lacks RTE/dev.tsv"),
    (break_counts, "RTE/test.tsv: 3 rows, but the official file has 4"),
    (break_slip_up, "'RTE/../../evil.txt' would lie outside"),
    (break_slip_root, "'/tmp/fsd-evil.txt' would lie outside"),
    (break_slip_windows, "would lie outside"),
])
def test_one_tasks_failure_is_told_leaves_nothing_and_does_not_lose_the_others(server, tmp_path, capsys, harm, reason):
    harm(server)
    with pytest.raises(InputError, match="1 of 3 not fetched: RTE"):
        run(server, tmp_path, "--tasks", "CoLA", "RTE", "WNLI")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert line.startswith("RTE: FAILED: ") and reason in line
    assert on_disk(tmp_path) == sorted(f"{task}/{split}.tsv" for task in ("CoLA", "WNLI") for split in
                                       ("train", "dev", "test"))
    assert sorted(os.listdir(tmp_path)) == ["CoLA", "WNLI"]


def test_a_failed_overwrite_keeps_the_old_files(server, tmp_path):
    run(server, tmp_path, "--tasks", "RTE")
    before = {name: (tmp_path / name).read_text() for name in on_disk(tmp_path)}
    break_truncated_zip(server)
    with pytest.raises(InputError):
        run(server, tmp_path, "--tasks", "RTE", "--overwrite")
    assert {name: (tmp_path / name).read_text() for name in on_disk(tmp_path)} == before


def test_nobody_answers(server, tmp_path, capsys):
    with pytest.raises(InputError, match="1 of 1"):
        download_glue.main(["--data_dir", str(tmp_path), "--tasks", "RTE", "--base_url", "http://127.0.0.1:9/glue"])
    told = capsys.readouterr().out
    assert "http://127.0.0.1:9/glue/RTE.zip" in told and "check the network" in told


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_damaged_hub_json_is_told_before_anything_is_fetched(server, tmp_path, capsys, text):
    record = tmp_path / "RTE/hub.json"
    record.parent.mkdir()
    record.write_text(text)
    with pytest.raises(InputError, match="1 of 1"):
        run(server, tmp_path, "--tasks", "RTE")
    assert "hub.json" in capsys.readouterr().out and record.read_text() == text and on_disk(tmp_path) == ["RTE/hub.json"]


@pytest.mark.parametrize("arguments, reason", [
    (["--tasks", "SNLI"], "not a GLUE task"),
    (["--base_url", "ftp://somewhere"], "--base_url"),
    (["--mrpc_dir", "/nonexistent"], "--mrpc_dir"),
    (["--mrpc_dir", "/", "--tasks", "RTE"], "--mrpc_dir is for MRPC"),
])
def test_arguments_are_checked_before_anything_is_done(tmp_path, arguments, reason):
    with pytest.raises(InputError, match=reason):
        download_glue.main(["--data_dir", str(tmp_path / "glue"), *arguments])
    assert not (tmp_path / "glue").exists()


def test_as_a_script_it_ends_with_one_line_and_status_2(server, tmp_path):
    # The official counts hold in this process, so that the small archives are refused.
    command = [sys.executable, str(SCRIPT), "--data_dir", str(tmp_path), "--tasks", "RTE",
               "--base_url", f"http://127.0.0.1:{server.server_port}"]
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 2
    assert "4 rows, but the official file has 2490" in done.stdout
    assert done.stderr == "download_glue.py: error: 1 of 1 not fetched: RTE (reasons above)\n"
    assert os.listdir(tmp_path) == []
