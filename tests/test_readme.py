"""What the README shows runs: its Python examples, and every flag in its command lines."""

import re

import pytest
import torch
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SCRIPTS = sorted(set(re.findall(r"python ((?:scripts/)?\w+\.py)", README)))


def test_the_losses_in_your_own_loop(rte_teacher, save_bert, tmp_path, monkeypatch):
    from transformers import AutoModelForSequenceClassification

    from fsd.memory import TeacherMemory

    facts = dict(task="RTE", teacher="", teacher_hash="", tokenizer_hash="", layer=3, mask_padding=False, examples=9, passes=3,
                 inertia=1.0, seed=0)
    TeacherMemory(torch.randn(4, 6, 16), torch.tensor([1, 2, 3, 3]), **facts).save(tmp_path / "MEM")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(PYTHON_BLOCKS[0], names)
    teacher = AutoModelForSequenceClassification.from_pretrained(rte_teacher)
    student = AutoModelForSequenceClassification.from_pretrained(save_bert(tmp_path / "student", "RTE", layers=2, width=8))
    student_memory = torch.nn.Parameter(torch.randn(4, 6 * 8))
    batch = {"input_ids": torch.randint(5, 50, (3, 6)), "attention_mask": torch.ones(3, 6, dtype=torch.long)}
    names["distillation_loss"](student, teacher, student_memory, batch).backward()
    assert student_memory.grad.abs().sum() > 0
    assert student.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    assert teacher.classifier.weight.grad is None


def test_a_trained_student(save_bert, tmp_path, monkeypatch, capsys):
    save_bert(tmp_path / "OUT", "RTE", layers=2)
    monkeypatch.chdir(tmp_path)
    exec(PYTHON_BLOCKS[1], {})
    assert "entailment" in capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_of_a_command_line_exists(script, run_script):
    known = set(re.findall(r"--\w+", run_script(script, "--help").out))
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        for command in block.replace("\\\n", " ").splitlines():
            if f"python {script} " in command:
                used = set(re.findall(r"--\w+", command.split("#")[0]))
                assert used <= known, used - known


def test_the_command_lines_are_there():
    assert {"run_glue_intra_inter.py", "run_glue_global.py", "run_glue_all.py", "train_memory.py",
            "scripts/finetune_teacher.py", "scripts/download_glue.py", "scripts/hold_out.py"} <= set(SCRIPTS)
