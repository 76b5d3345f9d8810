"""What README and docs show: their Python runs, their flags and links exist, the README is one page."""

import copy
import json
import re
import shlex
import shutil
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from conftest import ROOT
from transformers import AutoModelForSequenceClassification

import fsd
from fsd.records.results import read_results
from fsd.reproduction.experiment_file import read_experiment

PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES["README.md"]
COMMANDS = [
    command
    for page in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
]
# `code` in running text names programs with flags, too.
SPANS = [span for page in PAGES.values() for span in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))]
PYTHON_BLOCKS = [block for page in PAGES.values() for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


def used_flags():
    """The flags that each Python script gets; a flag belongs to the last script before it, torchrun's own to none."""
    used = {}
    for line in COMMANDS + SPANS:
        script = None
        for word in line.split("#")[0].split():
            if re.fullmatch(r"[\w/-]+\.py", word):
                script = word
                used.setdefault(script, set())
            elif script and word.startswith("--"):
                used[script].add(word.split("=")[0])
    return used


def python_block(words):
    """The Python example with these words in it."""
    (block,) = [block for block in PYTHON_BLOCKS if words in block]
    return block


@pytest.fixture
def memory_folder(tmp_path):
    """MEM in the test's folder: 4 centroids of length 20, as wide as the small teacher."""
    hashes = dict.fromkeys(("teacher_hash", "tokenizer_hash", "data_hash", "file_hash", "split_of"), "")
    facts = hashes | dict(task="RTE", teacher="", layer=3, mask_padding=False, examples=9, passes=3, inertia=1.0, seed=0)
    assignment = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3])
    fsd.TeacherMemory(torch.randn(4, 20, 16), assignment.bincount(), assignment, **facts).save(tmp_path / "MEM")


def test_the_losses_in_your_own_loop(rte_teacher, memory_folder, tmp_path, monkeypatch):
    shutil.copytree(rte_teacher, tmp_path / "TEACHER")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python_block("def distillation_loss"), names)
    assert names["student_memory"].centroids.grad.abs().sum() > 0
    assert names["student"].bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in names["teacher"].parameters())


class PlainTrainer:
    """What the example takes from the Trainer of transformers, which needs accelerate to start."""

    def __init__(self, model, args, train_dataset):
        self.model, self.args, self.train_dataset = model, args, train_dataset

    def create_optimizer(self):
        return torch.optim.SGD(self.model.parameters(), lr=0.0)

    def save_model(self, output_dir, _internal_call):
        self.model.save_pretrained(output_dir)


def test_the_trainer_s_loss(rte_teacher, memory_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.Trainer", PlainTrainer)
    monkeypatch.chdir(tmp_path)
    teacher = AutoModelForSequenceClassification.from_pretrained(rte_teacher)
    student = copy.deepcopy(teacher)
    names = dict(
        teacher=teacher, student=student, dataset=[], arguments=SimpleNamespace(device="cpu"),
        num_centroid=4, max_seq_length=20,
    )
    exec(python_block("class DistillationTrainer"), names)
    trainer, student_memory = names["trainer"], names["trainer"].student_memory
    optimizer = trainer.create_optimizer()
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3, [1] * 9])
    batch = {"input_ids": torch.randint(5, 20, (3, 9)), "attention_mask": mask, "labels": torch.tensor([0, 1, 1])}
    gradients = []
    for _ in range(2):
        loss, outputs = trainer.compute_loss(student.eval(), batch, return_outputs=True)
        loss.backward()
        gradients.append(student_memory.centroids.grad.clone())
        optimizer.step()
        student.zero_grad()
    assert outputs["logits"].shape == (3, 2)
    assert gradients[0].abs().sum() > 0 and torch.equal(*gradients)  # the second is not on top of the first
    trainer.save_model(tmp_path / "checkpoint")
    read = fsd.StudentMemory(4, 20, student.config.hidden_size, seed=2)
    read.load_state_dict(safetensors.torch.load_file(tmp_path / "checkpoint/student_memory.safetensors"))
    assert torch.equal(read.centroids, student_memory.centroids)


def test_a_memory_of_one_s_own():
    names = {}
    exec(python_block("def teacher_memory"), names)
    features = torch.randn(20, 9, 16)
    memory = names["teacher_memory"](features, 1)
    assert torch.allclose(memory, features.mean(0, keepdim=True), atol=1e-5)
    assert names["teacher_memory"](features, 4).shape == (4, 9, 16)


def test_a_memory_is_read(memory_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(python_block("print(memory.centroids.shape"), {})
    assert "[4, 20, 16]" in capsys.readouterr().out


def test_every_python_block_has_its_test():
    assert len(PYTHON_BLOCKS) == 7


def test_cka_of_any_features(capsys):
    exec(python_block("fsd.linear_cka"), {})
    assert capsys.readouterr().out.startswith("tensor(0.")


def test_a_trained_student(rte_teacher, tmp_path, monkeypatch, capsys):
    shutil.copytree(rte_teacher, tmp_path / "OUT")
    monkeypatch.chdir(tmp_path)
    exec(python_block("pipeline("), {})
    assert "entailment" in capsys.readouterr().out


def test_data_of_your_own(run_script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (task_file,) = re.findall(r"```json\n(.*?)```", PAGES["own-data.md"], re.DOTALL)
    (tmp_path / "claims.json").write_text(task_file)
    blocks = re.findall(r"```(bash|python)\n(.*?)```", PAGES["own-data.md"], re.DOTALL)
    for language, block in blocks:
        if language == "python":
            exec(block, {})
            continue
        for command in block.replace("\\\n", " ").splitlines():
            ended = run_script(*shlex.split(command)[1:])
            assert ended.status == 0, f"{command}\n{ended.err}"
    header, *rows = (tmp_path / "OUT/predictions/Claims.tsv").read_text().splitlines()
    assert header == "index\tprediction" and len(rows) == 40 and {row.split("\t")[1] for row in rows} <= {"yes", "no"}
    assert json.loads((tmp_path / "OUT/analysis.json").read_text())["task"] == "Claims"
    assert read_results(tmp_path / "results.csv")[-1]["main_metric"] == "f1"


def test_an_experiment_file_is_read(tmp_path):
    (block,) = re.findall(r"```toml\n(.*?)```", PAGES["reproduction.md"], re.DOTALL)
    (tmp_path / "example.toml").write_text(block)
    experiment = read_experiment(tmp_path / "example.toml")
    counts = [len(stage.candidates(task)) for task in experiment.tasks for stage in experiment.stages]
    assert counts == [27, 8, 27, 10]


@pytest.mark.parametrize("script", sorted(script for script, flags in used_flags().items() if flags))
def test_every_flag_of_a_command_line_exists(script, run_script):
    # A flag's own entry in the help stands at two spaces; a mention in a text is no such flag.
    known = set(re.findall(r"^  (?:-\w, )?(--\w+)", run_script(script, "--help").out, re.MULTILINE))
    assert used_flags()[script] <= known


def test_every_script_of_a_command_line_exists():
    words = {word for command in COMMANDS for word in command.split() if re.fullmatch(r"[\w/-]+\.(py|sh|sbatch)", word)}
    assert [word for word in sorted(words) if not (ROOT / word).is_file()] == []


def test_the_command_lines_are_there():
    words = {word for command in COMMANDS for word in command.split()}
    assert {"run_glue_intra_inter.py", "run_glue_global.py", "run_glue_all.py", "train_memory.py",
            "scripts/finetune_teacher.py", "scripts/download_glue.py", "scripts/hold_out.py", "scripts/benchmark.py",
            "scripts/run_baseline.py", "scripts/reproduce.py", "scripts/make_tables.py",
            "scripts/make_figures.py", "tests/stress/kill_and_resume.py", "tests/stress/try_bad_input.py"} <= words


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#\s]+)", PAGES[name]):
        assert target.startswith("http") or (folder / target).exists(), target


def test_the_readme_is_one_page_without_badges():
    assert len(README.splitlines()) <= 200
    assert not any("shields.io" in page for page in PAGES.values())
