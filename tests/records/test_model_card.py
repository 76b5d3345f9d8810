"""The model card of a trained model."""

import pytest
import yaml
from huggingface_hub import ModelCard

from fsd.glue.tasks import find_task
from fsd.records.model_card import NOT_EVALUATED, add_scores_to_card, front_matter, is_hub_name, public_command
from fsd.records.output_folder import CARD_MARK, remove_previous_run
from fsd.records.public_names import public_values


@pytest.fixture
def train(run_script, toy_glue, rte_teacher, tmp_path):
    """Call ``train(script, flags…)``: trains one step into ``out``; returns the card's YAML block and the whole card."""

    def run(script, *flags):
        ended = run_script(
            script, "--model_name_or_path", rte_teacher, "--data_dir", toy_glue, "--task_name", "RTE", "--do_lower_case",
            "--max_seq_length", 24, f"--output_dir={tmp_path / 'out'}", "--do_train", "--max_steps", 1, *flags,
        )
        assert ended.status == 0, ended.err
        text = (tmp_path / "out/README.md").read_text(encoding="utf-8")
        return yaml.safe_load(text.split("---")[1]), text

    return run


def test_a_run_writes_a_card_that_the_hub_reads(train, rte_teacher, toy_glue, tmp_path):
    values, text = train("run_glue_intra_inter.py", "--internal", "--do_eval", "--copy_teacher")
    assert values == {"language": "en", "library_name": "transformers", "pipeline_tag": "text-classification",
                      "datasets": ["glue"], "metrics": ["accuracy"]}
    assert ModelCard.load(tmp_path / "out/README.md").data.metrics == ["accuracy"]
    accuracy = float((tmp_path / "out/eval_results.txt").read_text().split(" = ")[1])
    for words in ("FSD_I", "0.5·task_loss + 0.5·dark_knowledge + 30·intra", f"| acc | {accuracy:.4f} |",
                  f"teacher: `{rte_teacher.name}`", "--internal", "torch", "python run_glue_intra_inter.py"):
        assert words in text, words
    for folder in (tmp_path, rte_teacher.parent, toy_glue.parent):
        assert str(folder) not in text

    values, text = train("scripts/finetune_teacher.py", "--overwrite_output_dir")
    assert "teacher: none" in text and "not evaluated" in text and "metrics" not in values
    remove_previous_run(tmp_path / "out")
    assert not (tmp_path / "out/README.md").exists()


def test_names_of_the_hub_are_the_base_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some/bert").mkdir(parents=True)
    assert [is_hub_name(name) for name in ("bert-base-uncased", "other/bert", "some/bert", "/a/bert", "a/b/c", "../bert", "ü")] \
        == [True, True, False, False, False, False, False]
    for base in ("google-bert/bert-base-uncased", "no", "1.0"):  # the last two are no text in plain YAML
        values = yaml.safe_load(front_matter(base, find_task("MNLI"), {"mnli/acc": 0.5, "mnli-mm/acc": 0.5}).split("---")[1])
        assert values["base_model"] == base and values["metrics"] == ["accuracy"]


def test_the_command_names_no_folder_of_this_machine():
    command = public_command(["/home/me/fsd/run.py", "--data_dir=/home/me/glue", "--out", "a b", "/x/y/", "--beta", "1"])
    assert command == "python run.py --data_dir=glue --out 'a b' y --beta 1"


def test_relative_paths_name_no_folder_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret/glue").mkdir(parents=True)
    hub_name = "google-bert/bert-base-uncased"
    given = {"data_dir": "secret/glue", "above": "../../alice/bert", "model": hub_name, "n": [1, "./runs/x"]}
    assert public_values(given) == {
        "data_dir": "glue", "above": "bert", "model": hub_name, "n": [1, "x"]}


def test_scores_come_into_a_card_that_is_not_utf8(tmp_path):
    card = tmp_path / "README.md"
    card.write_bytes("\n".join(["---", "---", "", CARD_MARK, NOT_EVALUATED, ""]).encode() + b"caf\xe9\n")
    add_scores_to_card(tmp_path, {"acc": 0.5})
    assert b"| acc | 0.5000 |" in card.read_bytes() and card.read_bytes().endswith(b"\ncaf\xe9\n")
