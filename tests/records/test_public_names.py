"""A finished run's folder can be uploaded: no file in it names a folder of this machine."""

import pytest


@pytest.fixture
def odd(save_bert, tmp_path):
    """A folder with a name that nothing else has; a teacher and a student to start from lie in it."""
    folder = tmp_path / "zq7odd place"
    save_bert(folder / "teacher", "RTE")
    save_bert(folder / "first", "RTE", layers=2)
    return folder


def files_that_name(folder, word):
    """The files of a folder, without its checkpoints, that hold the word."""
    return [path.name for path in folder.iterdir() if path.is_file() and word.encode() in path.read_bytes()]


def test_no_file_of_a_finished_run_names_a_folder(run_script, toy_glue, odd, tmp_path):
    common = ["--task_name", "RTE", "--do_lower_case", "--max_seq_length", 24, "--do_train"]
    read = ["--model_name_or_path", odd / "teacher", f"--data_dir={toy_glue}", f"--tokenizer_name={odd / 'teacher'}"]
    student = odd / "student"
    for script, folder, *flags in (
        ("train_memory.py", odd / "memory", "--num_centroid", 3),
        ("run_glue_global.py", student, "--max_steps", 2, "--save_steps", 1, "--do_eval", "--do_predict",
         "--teacher_memory_path", odd / "memory", "--student_model_name_or_path", odd / "first", "--results_file",
         odd / "results.csv", "--cache_teacher", odd / "cache"),
    ):
        ended = run_script(script, *read, *common, "--output_dir", folder, *flags)
        assert ended.status == 0, ended.err
        for word in ("zq7odd", str(tmp_path), str(toy_glue.parent)):
            assert files_that_name(folder, word) == []
    assert run_script(script, *read, *common, "--output_dir", folder, *flags, "--resume").status == 0
    flags[flags.index(odd / "first")] = student / "checkpoint-1"
    rewound = run_script(script, *read, *common, "--output_dir", folder, *flags)  # needs the full path of its start
    assert rewound.status == 0 and "goes on from" in rewound.err, rewound.err
    assert files_that_name(student, "zq7odd") == []
