"""What README and docs show: their Python runs, their flags and links exist, the README is one page."""

import re
import shutil

import pytest
import torch
from conftest import ROOT

import fsd

PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES["README.md"]
COMMANDS = [
    command
    for page in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
]
SCRIPT = re.compile(r"(?:python|torchrun .*?) ((?:[\w-]+/)*\w+\.py)\b")
SCRIPTS = sorted({match[1] for command in COMMANDS if (match := SCRIPT.search(command))})


def python_block(words):
    """The README's Python example with these words in it."""
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if words in block]
    return block


def test_the_losses_in_your_own_loop(rte_teacher, tmp_path, monkeypatch):
    shutil.copytree(rte_teacher, tmp_path / "TEACHER")
    facts = dict(task="RTE", teacher="", teacher_hash="", tokenizer_hash="", data_hash="", layer=3, mask_padding=False,
                 examples=9, passes=3, inertia=1.0, seed=0)
    assignment = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3])
    fsd.TeacherMemory(torch.randn(4, 20, 16), assignment.bincount(), assignment, **facts).save(tmp_path / "MEM")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(python_block("def distillation_loss"), names)
    assert names["student_memory"].centroids.grad.abs().sum() > 0
    assert names["student"].bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_cka_of_any_features(capsys):
    exec(python_block("fsd.linear_cka"), {})
    assert capsys.readouterr().out.startswith("tensor(0.")


def test_a_trained_student(rte_teacher, tmp_path, monkeypatch, capsys):
    shutil.copytree(rte_teacher, tmp_path / "OUT")
    monkeypatch.chdir(tmp_path)
    exec(python_block("pipeline("), {})
    assert "entailment" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_a_command_line_exists(script, run_script):
    if script.endswith("watch_memory.py"):  # its flags are those of another script
        return
    known = set(re.findall(r"--\w+", run_script(script, "--help").out))
    for command in COMMANDS:
        if (match := SCRIPT.search(command)) and match[1] == script:
            used = set(re.findall(r"--\w+", command[match.end() :].split("#")[0]))
            assert used <= known, f"{command}: {used - known}"


def test_the_command_lines_are_there():
    assert {"run_glue_intra_inter.py", "run_glue_global.py", "run_glue_all.py", "train_memory.py",
            "scripts/finetune_teacher.py", "scripts/download_glue.py", "scripts/hold_out.py", "scripts/benchmark.py",
            "tests/stress/kill_and_resume.py", "tests/stress/try_bad_input.py"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#\s]+)", PAGES[name]):
        assert target.startswith("http") or (folder / target).exists(), target


def test_the_readme_is_one_page_without_badges():
    assert len(README.splitlines()) <= 200 and "shields.io" not in README
