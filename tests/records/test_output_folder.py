"""What --overwrite_output_dir, saving and evaluating remove or write over: files of ours, and nothing else."""

import contextlib
from types import SimpleNamespace

import pytest

from fsd.records.checkpoints import keep_newest
from fsd.records.model_card import write_model_card
from fsd.records.output_folder import CARD_MARK, check_eval_results, check_output_dir, checkpoints, remove_previous_run
from fsd.records.resuming import locked_output_dir
from fsd.system.errors import InputError
from fsd.system.files import remove_folder


@pytest.fixture
def folder(tmp_path):
    """A finished run with checkpoints of ours, beside files of other programs and of the user's."""
    for step in (2, 10):
        (tmp_path / f"out/checkpoint-{step}").mkdir(parents=True)
        (tmp_path / f"out/checkpoint-{step}/training_args.json").write_text("{}")
    (tmp_path / "out/checkpoint-40").mkdir()
    (tmp_path / "out/checkpoint-40/trainer_state.json").write_text("{}")
    (tmp_path / "out/predictions").mkdir()
    for name in ("predictions/RTE.tsv", "predictions/mine.tsv", "predictions/CoLA.tsv", "config.json", "vocab.txt", "notes.txt"):
        (tmp_path / "out" / name).write_text("x")
    (tmp_path / "out/training_args.json").write_text('{"run": "x", "settings": {}, "task": {"name": "RTE"}}')
    return tmp_path / "out"


def test_another_programs_checkpoint_and_the_users_files_stay(folder):
    remove_previous_run(folder)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {"checkpoint-40/trainer_state.json", "predictions/mine.tsv", "predictions/CoLA.tsv", "vocab.txt", "notes.txt"}


def test_a_folder_of_predictions_goes_when_it_is_empty(folder):
    for name in ("mine", "CoLA"):
        (folder / f"predictions/{name}.tsv").unlink()
    remove_previous_run(folder)
    assert not (folder / "predictions").exists()


def test_of_temporary_files_only_ours_go(folder):
    for name in (".notes.tmp", ".cache.tmp/thesis.txt", "predictions/.x.tmp", ".config.json.backup.tmp", "mine.fsd-tmp"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    before = set(folder.rglob("*"))
    (folder / ".config.json.abc.fsd-tmp").write_text("half")
    with locked_output_dir(folder):
        pass
    assert set(folder.rglob("*")) == before


def test_only_checkpoints_of_ours_are_counted_and_removed(folder):
    assert [step for step, _ in checkpoints(folder)] == [2, 10]
    keep_newest(folder, 1)
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-10", "checkpoint-40"]


def test_a_users_file_in_a_checkpoint_of_ours_is_kept(folder):
    for step, name in ((2, "mine.txt"), (10, "sentencepiece.model")):
        (folder / f"checkpoint-{step}" / name).write_text(name)
        (folder / f"checkpoint-{step}/model.safetensors").write_text("x")
    (folder / "checkpoint-10/training_state.json").write_text('{"written": ["sentencepiece.model"]}')
    (folder / "checkpoint-2-kept").mkdir()
    remove_previous_run(folder)
    kept = {str(path.relative_to(folder)) for path in folder.glob("checkpoint-*/*")}
    assert kept == {"checkpoint-2-kept1/mine.txt", "checkpoint-40/trainer_state.json"}


def test_of_a_checkpoint_that_was_moved_and_linked_back_the_link_goes(folder, tmp_path):
    (folder / "checkpoint-2").rename(tmp_path / "elsewhere")
    (folder / "checkpoint-2").symlink_to(tmp_path / "elsewhere")
    remove_folder(folder / "checkpoint-2")
    assert not (folder / "checkpoint-2").is_symlink() and (tmp_path / "elsewhere/training_args.json").exists()


def test_the_users_own_readme_stays_and_our_card_goes(folder):
    (folder / "README.md").write_text("mine")
    remove_previous_run(folder)
    assert (folder / "README.md").read_text() == "mine"
    (folder / "README.md").write_text(f"# BERT\n\n{CARD_MARK}\n")
    remove_previous_run(folder)
    assert not (folder / "README.md").exists()


def test_a_link_to_a_readme_that_is_not_there_now_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("fsd.records.model_card.front_matter", lambda *arguments: "")
    monkeypatch.setattr("fsd.records.model_card.body", lambda *arguments: "card")
    (tmp_path / "README.md").symlink_to(tmp_path / "unmounted/README.md")
    write_model_card(tmp_path, SimpleNamespace(task=None), {}, None, "")
    assert (tmp_path / "README.md").is_symlink()


@pytest.mark.parametrize("record", ['{"learning_rate": 1e-5}', "[]", "", '{"run": 1}'])
def test_a_folder_with_another_programs_training_args_is_not_overwritten(tmp_path, record):
    (tmp_path / "training_args.json").write_text(record)
    (tmp_path / "model.safetensors").write_text("another program's")
    with pytest.raises(InputError, match="model.safetensors but is not a run of ours"):
        check_output_dir(tmp_path, read={}, written={}, resume=False, overwrite=True)
    (tmp_path / "training_args.json").write_text('{"run": "x", "settings": {}}')
    check_output_dir(tmp_path, read={}, written={}, resume=False, overwrite=True)


@pytest.mark.parametrize("text, is_ours", [
    ("acc = 0.5\n", True), ("corr = 0.8\npearson = 0.8\nspearmanr = 0.8\n", True), ("mnli-mm/acc = 0.7\n", True), ("", True),
    ("epoch = 3.0\neval_accuracy = 0.5\n", False), ("acc = 0.5\nnotes\n", False), ("\xff", False),
])
def test_an_evaluation_leaves_another_programs_scores(tmp_path, text, is_ours):
    check_eval_results(tmp_path)
    (tmp_path / "eval_results.txt").write_text(text, encoding="latin-1")
    with contextlib.nullcontext() if is_ours else pytest.raises(InputError, match="eval_results.txt that is not ours"):
        check_eval_results(tmp_path)


def test_an_evaluation_leaves_what_is_no_file(tmp_path):
    (tmp_path / "eval_results.txt").symlink_to("unmounted/eval_results.txt")
    with pytest.raises(InputError, match="not ours"):
        check_eval_results(tmp_path)
    (tmp_path / "eval_results.txt").unlink()
    (tmp_path / "eval_results.txt").mkdir()
    with pytest.raises(InputError, match="not ours"):
        check_eval_results(tmp_path)
