"""Held-out data: what has seen their rows is refused, what was trained on other rows is named."""

import json
import shutil

import pytest

SHORT = ["--do_train", "--max_seq_length", 24, "--do_lower_case", "--task_name", "RTE"]


@pytest.fixture
def splits(run_script, toy_glue, tmp_path):
    """Two splits of the same training data."""
    for seed in (1, 2):
        finished = run_script("scripts/hold_out.py", "--data_dir", toy_glue, "--task_name", "RTE", "--output_dir",
                              tmp_path / f"held{seed}", "--seed", seed)
        assert finished.status == 0, finished.err
    return tmp_path / "held1", tmp_path / "held2"


@pytest.fixture
def finetune(run_script, rte_teacher, tmp_path):
    """Call ``finetune(data, flags…)``: the folder of a teacher that was trained on these data."""

    def finetune(data, *flags):
        folder = tmp_path / f"teacher on {data.name}{len(flags)}"
        finished = run_script("scripts/finetune_teacher.py", "--model_name_or_path", rte_teacher, "--data_dir", data, *SHORT,
                              "--output_dir", folder, "--max_steps", 1, *flags)
        assert finished.status == 0, finished.err
        return folder

    return finetune


def build_memory(run_script, teacher, data, folder):
    return run_script("train_memory.py", "--model_name_or_path", teacher, "--data_dir", data, *SHORT, "--output_dir", folder,
                      "--num_centroid", 3)


def distil(run_script, teacher, data, folder, *flags, script="run_glue_intra_inter.py"):
    return run_script(script, "--model_name_or_path", teacher, "--data_dir", data, *SHORT, "--output_dir", folder,
                      "--max_steps", 1, "--skip_teacher_eval", *flags)


def test_the_split_tells_its_source(splits, toy_glue):
    records = [json.loads((folder / "RTE/split.json").read_text()) for folder in splits]
    assert records[0]["source"] == records[1]["source"] and [record["seed"] for record in records] == [1, 2]


def test_the_parts_do_not_take_the_place_of_the_data(run_script, toy_glue, tmp_path):
    shutil.copytree(toy_glue / "RTE", tmp_path / "glue/rte")  # the programs would read glue/RTE before it
    ended = run_script("scripts/hold_out.py", "--data_dir", tmp_path / "glue", "--task_name", "RTE",
                       "--output_dir", tmp_path / "glue")
    assert ended.status == 2 and "holds the task's own files" in ended.last_line
    assert [path.name for path in (tmp_path / "glue").iterdir()] == ["rte"]


def test_a_lone_carriage_return_ends_a_row_here_too(run_script, tmp_path):
    (tmp_path / "glue/RTE").mkdir(parents=True)
    rows = [f"{at}\tfirst {at}\tsecond\tentailment" for at in range(4)]
    text = "index\tsentence1\tsentence2\tlabel\n" + "\n".join(rows[:2]) + "\r" + "\r\n".join(rows[2:]) + "\n"
    (tmp_path / "glue/RTE/train.tsv").write_bytes(text.encode())
    ended = run_script("scripts/hold_out.py", "--data_dir", tmp_path / "glue", "--task_name", "RTE", "--output_dir",
                       tmp_path / "held", "--share", 0.5)
    assert ended.status == 0 and ended.out.count(": 2 examples") == 2, ended.out + ended.err
    parts = [(tmp_path / f"held/RTE/{name}.tsv").read_text().splitlines()[1:] for name in ("train", "dev")]
    assert sorted(sum(parts, [])) == rows


def test_a_teacher_that_has_seen_the_held_out_rows_is_refused(run_script, splits, finetune, toy_glue, tmp_path):
    first, second = splits
    for seen, words in ((toy_glue, "all of the file"), (second, "another split of the file")):
        teacher = finetune(seen)
        for refused in (distil(run_script, teacher, first, tmp_path / "student"),
                        build_memory(run_script, teacher, first, tmp_path / "memory")):
            assert refused.status == 2 and words in refused.last_line and str(teacher) in refused.last_line
    assert not (tmp_path / "student").exists() and not (tmp_path / "memory").exists()


@pytest.mark.parametrize("role", ["copied from", "the student's start", "fine-tuned further"])
def test_parameters_that_have_seen_the_held_out_rows_are_refused(run_script, splits, finetune, rte_teacher, toy_glue, tmp_path,
                                                                 role):
    seen, out = finetune(toy_glue), tmp_path / "out"
    if role == "fine-tuned further":
        refused = run_script("scripts/finetune_teacher.py", "--model_name_or_path", seen, "--data_dir", splits[0], *SHORT,
                             "--output_dir", out, "--max_steps", 1)
    else:
        flags = ["--copy_teacher", "--model_name_or_path_for_copy"] if role == "copied from" else ["--student_model_name_or_path"]
        refused = distil(run_script, rte_teacher, splits[0], out, *flags, seen)
    assert refused.status == 2 and f"{seen} was trained on all of the file" in refused.last_line and not out.exists()


def test_a_teacher_of_the_same_split_is_taken_without_a_word(run_script, splits, finetune, tmp_path, caplog):
    finished = distil(run_script, finetune(splits[0]), splits[0], tmp_path / "student")
    assert finished.status == 0 and "other rows" not in caplog.text


@pytest.mark.parametrize("flags", [["--student_model_name_or_path"], ["--copy_teacher", "--model_name_or_path_for_copy"]])
def test_a_start_that_has_seen_the_held_out_rows_is_refused(run_script, splits, finetune, rte_teacher, toy_glue, tmp_path, flags):
    first, second = splits
    for seen, words in ((toy_glue, "all of the file"), (second, "another split of the file")):
        start = finetune(seen)
        refused = distil(run_script, rte_teacher, first, tmp_path / "student", *flags, start)
        assert refused.status == 2 and words in refused.last_line and str(start) in refused.last_line
    assert not (tmp_path / "student").exists()
    assert distil(run_script, rte_teacher, first, tmp_path / "student", *flags, finetune(first)).status == 0


def test_a_model_that_has_seen_the_held_out_rows_is_not_scored_on_them(run_script, splits, finetune, toy_glue, tmp_path):
    def evaluate(model):
        return run_script("scripts/finetune_teacher.py", "--model_name_or_path", model, "--data_dir", splits[0], "--task_name",
                          "RTE", "--do_lower_case", "--max_seq_length", 24, "--do_eval", "--output_dir", tmp_path / "scores")

    for seen in (toy_glue, splits[1]):
        refused = evaluate(finetune(seen))
        assert refused.status == 2 and "has seen them" in refused.last_line and not (tmp_path / "scores").exists()
    assert evaluate(finetune(splits[0])).status == 0


def test_a_memory_that_has_seen_the_held_out_rows_is_refused(run_script, splits, finetune, rte_teacher, toy_glue, tmp_path):
    assert build_memory(run_script, rte_teacher, toy_glue, tmp_path / "memory").status == 0
    refused = distil(run_script, rte_teacher, splits[0], tmp_path / "student", "--teacher_memory_path", tmp_path / "memory",
                     script="run_glue_global.py")
    assert refused.status == 2 and "the memory" in refused.last_line and "all of the file" in refused.last_line


def test_other_rows_are_named_in_one_warning(run_script, finetune, toy_glue, tmp_path, caplog):
    teacher = finetune(toy_glue, "--max_train_samples", 40)
    finished = distil(run_script, teacher, toy_glue, tmp_path / "student")
    assert finished.status == 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "was trained on other rows" in warning and str(teacher) in warning


def test_a_damaged_record_of_a_split_is_told(run_script, splits, rte_teacher, tmp_path):
    (splits[0] / "RTE/split.json").write_text("[]")
    refused = distil(run_script, rte_teacher, splits[0], tmp_path / "student")
    assert refused.status == 2 and "split.json" in refused.last_line
