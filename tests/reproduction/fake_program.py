"""Stands in for each of the scripts that a reproduction runs: writes their files and rows, and fails where it is told to."""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ["FAKE_ROOT"])

from fsd.records.results import append_result
from fsd.reproduction.programs import identity
from fsd.system.files import write_json

words = sys.argv[1:]
script = Path(sys.argv[0]).name


def value(flag):
    return words[words.index(f"--{flag}") + 1]


def training_data():
    return hashlib.sha256(Path(value("data_dir"), value("task_name"), "train.tsv").read_bytes()).hexdigest()


def stop(number, frame):
    time.sleep(0.5)  # saving takes time
    note("stopped")
    print(f"{script}: stopped by SIGTERM: saved", file=sys.stderr)
    sys.exit(143)


def note(what):
    with open(os.environ["FAKE_ROOT_LOG"], "a") as file:
        file.write(json.dumps([what, script, *words]) + "\n")


note("started")
folder = Path(value("output_file" if script == "analyse.py" else "output_dir"))
behaviour = json.loads(os.environ.get("FAKE_BEHAVIOUR", "{}"))
told = next((does for part, does in behaviour.items() if part in f"{script} {folder} {' '.join(words)}"), "work")
if told == "stop the caller":
    signal.signal(signal.SIGTERM, stop)
    for _ in range(2):  # a launcher may pass a signal on twice
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(0.05)
    time.sleep(30)
if told == "insist":
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1.5), os.kill(os.getppid(), signal.SIGTERM), time.sleep(60)))
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
if told == "hang":
    signal.signal(signal.SIGTERM, stop)
    while not Path(os.environ["FAKE_GO_ON"]).exists():
        time.sleep(0.02)
if told == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if told == "fail silently":
    sys.exit(3)
if told == "fail":
    print(f"\n{script}: error: it has diverged\n", file=sys.stderr)
    sys.exit(2)
if told == "leave nothing":
    sys.exit(0)

if script == "hold_out.py":
    write_json(folder / value("task_name") / "split.json", {"source": training_data()})
    shutil.copy(Path(value("data_dir"), value("task_name"), "train.tsv"), folder / value("task_name"))
elif script == "analyse.py":
    assert (Path(value("student_model_name_or_path")) / "model.safetensors").exists()
    write_json(folder, {})
else:
    role = "teacher" if script == "finetune_teacher.py" else "student"
    method = "teacher" if role == "teacher" else folder.parts[-3]
    for name in ("model.safetensors", "student_memory.safetensors", "config.json", "checkpoint-5/training_args.json",
                 "checkpoint-notes/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    write_json(folder / "training_args.json", {"run": str(folder), "finished": True, "settings": {}})
    append_result(value("results_file"), {
        "task": value("task_name"), "method": "fine-tuning" if role == "teacher" else method, "role": role,
        "seed": value("seed"), "acc": 0.5, "seconds": 10, "steps": 5, "run": f"{folder} {time.time()}",
        "copied_from": Path(value("model_name_or_path" if role == "teacher" else "model_name_or_path_for_copy")).name,
        "train_data": training_data(), "teacher": value("model_name_or_path") if role == "student" else "",
        "flags": json.dumps(identity(method, value("task_name"), tuple(words))),
    })
