"""--push_to_hub against a server on loopback that plays the hub: what is uploaded, and one line where nothing can be."""

import base64
import http.server
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from loopback import serving


class Hub(http.server.BaseHTTPRequestHandler):
    """Makes repositories and takes commits; ``server.commits`` holds each one's files, path → bytes."""

    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b"".join(iter(self.chunk, b""))
        self.server.asked.append(self.path)
        if self.headers.get("Authorization") != "Bearer hf_right":
            self.answer({"error": "Invalid credentials"}, 401)
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self.answer({"url": f"{self.server.address}/me/student", "name": "me/student", "id": "me/student"})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        elif "/commit/" in self.path:
            entries = [json.loads(line) for line in body.splitlines()]
            self.server.commits.append({
                entry["value"]["path"]: base64.b64decode(entry["value"]["content"]) for entry in entries if entry["key"] == "file"
            })
            commit = "1" * 40
            self.answer({"success": True, "commitOid": commit, "commitUrl": f"{self.server.address}/me/student/commit/{commit}"})
        else:
            self.answer({})

    def do_GET(self):
        self.server.asked.append(self.path)
        self.answer({"id": "me/student", "sha": "0" * 40, "siblings": []})

    def chunk(self):
        """The next piece of a chunked body, empty at its end."""
        size = int(self.rfile.readline(), 16)
        content = self.rfile.read(size)
        self.rfile.readline()
        return content

    def answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with serving(Hub) as server:
        server.asked, server.made, server.commits, server.address = [], [], [], f"http://127.0.0.1:{server.server_port}"
        yield server


@pytest.fixture
def train(hub, rte_teacher, toy_glue, tmp_path):
    """Call ``train(flags…)``: two steps of FSD_L into "out", uploaded to me/student, in a process whose hub is the server."""

    def run(*flags, name="me/student", token="hf_right", **environment):
        command = [
            sys.executable, ROOT / "run_glue_intra_inter.py", "--model_name_or_path", rte_teacher, "--data_dir", toy_glue,
            "--task_name", "RTE", "--max_seq_length", 24, "--output_dir", tmp_path / "out", "--results_file", tmp_path / "r.csv",
            "--run_file", tmp_path / "runs", "--max_steps", 2, "--save_steps", 1, "--push_to_hub", name, *flags,
        ]
        kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        kept |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
        kept |= {"HF_HUB_DISABLE_TELEMETRY": "1"} | ({"HF_TOKEN": token} if token else {})
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=kept | environment, timeout=300)

    return run


def test_only_the_files_of_the_run_are_uploaded(train, hub, rte_teacher, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    ended = train("--do_train", "--do_eval", "--do_predict", "--overwrite_output_dir")
    assert ended.returncode == 0, ended.stderr
    assert f"to {hub.address}/me/student" in ended.stderr
    assert (hub.made[0]["organization"], hub.made[0]["name"]) == ("me", "student") and "visibility" not in hub.made[0]
    (files,) = hub.commits
    assert {"model.safetensors", "config.json", "tokenizer.json", "training_args.json", "eval_results.txt", "README.md",
            "predictions/RTE.tsv"} <= files.keys()
    assert not [name for name in files if name.startswith("checkpoint") or name == "notes.txt"]
    assert (tmp_path / "out/checkpoint-1").is_dir()
    for name, content in files.items():
        assert content == (tmp_path / "out" / name).read_bytes()
        assert str(tmp_path).encode() not in content and str(rte_teacher.parent).encode() not in content, name


def test_a_readme_of_the_user_stays(train, hub, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/README.md").write_text("mine")
    assert train("--do_train", "--overwrite_output_dir").returncode == 0
    assert "README.md" not in hub.commits[0]


@pytest.mark.parametrize(("flags", "changes", "reason"), [
    (["--do_train"], {"token": None}, "--push_to_hub needs a token of the hub"),
    (["--do_train"], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    (["--do_train"], {"name": "a/b/c"}, "--push_to_hub a/b/c"),
    (["--do_eval"], {}, "--push_to_hub needs --do_train"),
])
def test_what_could_not_be_uploaded_does_not_start(train, hub, tmp_path, flags, changes, reason):
    refused = train(*flags, **changes)
    assert refused.returncode == 2 and reason in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists() and hub.asked == []


def test_an_upload_that_fails_leaves_a_whole_run_which_resume_uploads(train, hub, tmp_path):
    failed = train("--do_train", token="hf_wrong")
    last = failed.stderr.splitlines()[-1]
    assert failed.returncode == 2 and "--push_to_hub me/student" in last and "with --resume uploads it" in last
    assert "Traceback" not in failed.stderr and hub.commits == []
    assert json.loads((tmp_path / "out/training_args.json").read_text())["finished"]
    before = (tmp_path / "out/model.safetensors").stat().st_mtime_ns
    assert train("--do_train", "--resume").returncode == 0
    assert hub.commits[0].keys() >= {"model.safetensors"} and (tmp_path / "out/model.safetensors").stat().st_mtime_ns == before
