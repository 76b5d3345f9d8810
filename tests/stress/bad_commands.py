"""Kinds of bad input on the command line: odd values, contradictions, places that clash, unknown hub models."""

import shutil
from pathlib import Path

from bad_models import CONFIG_NAMES
from spoiling import ODD_NUMBERS, ODD_TEXTS, spoil_bytes, spoil_json
from trials import DISTILLING, MODELLED, Trial, sound_flags


def numbers(rng, folder):
    """An odd value for a numeric flag of any program."""
    script, flag = rng.choice(sorted((script, flag) for script, flags in numeric_flags().items() for flag in flags))
    flags = sound_flags(script) | {flag: rng.choice(ODD_NUMBERS)}
    if flag in ("max_steps", "num_train_epochs", "memory_num_train_epochs") and endless(flags[flag]):
        flags[flag] = "-7"
    if rng.random() < 0.2:
        flags |= {"do_train": None, "do_eval": True} if script in DISTILLING else {}
    return Trial(script, f"--{flag} {flags[flag][:40]!r}", flags, attached=rng.random() < 0.5)


def endless(text):
    """Whether a number of steps is valid but too large for a trial."""
    try:
        return 50 < float(text) < float("inf")
    except ValueError:
        return False


def numeric_flags():
    """Program → its numeric flags."""
    training = (
        "max_seq_length max_train_samples logging_steps save_steps save_total_limit per_gpu_train_batch_size "
        "per_gpu_eval_batch_size gradient_accumulation_steps learning_rate weight_decay adam_epsilon max_grad_norm "
        "num_train_epochs max_steps warmup_steps seed local_rank"
    ).split()
    distilling = [*training, "alpha", "beta", "temperature"]
    return {
        "run_glue_intra_inter.py": distilling, "run_glue_global.py": [*distilling, "gamma_m", "memory_learning_rate"],
        "run_glue_all.py": [*distilling, "gamma_m", "memory_learning_rate", "gamma_i", "gamma_l", "gamma_g"],
        "scripts/finetune_teacher.py": training,
        "scripts/run_baseline.py": [*distilling, "rkd_distance", "rkd_angle"],
        "train_memory.py": (
            "max_seq_length max_train_samples logging_steps num_centroid memory_num_train_epochs memory_tolerance "
            "feature_cache_gb per_gpu_train_batch_size per_gpu_memory_train_batch_size seed num_train_epochs save_steps"
        ).split(),
        "scripts/hold_out.py": ["share", "seed"],
        "scripts/make_small_bert.py":
            "hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings seed".split(),
        "scripts/make_toy_glue.py": ["train_rows", "dev_rows", "test_rows", "seed"],
    }


SWITCHES = (
    "do_train do_eval do_predict evaluate_during_training eval_all_checkpoints overwrite_output_dir overwrite_cache "
    "copy_teacher do_layerwise mask_padding group_by_length fp16 bf16 no_cuda do_lower_case skip_teacher_eval internal "
    "released_intra debiased normalize_distances log_relations"
).split()
SETTINGS = {
    "model_name_or_path_for_copy": ("teacher", "student"), "student_config_name": ("student/config.json", "teacher"),
    "student_model_name_or_path": ("out", "student", "student/checkpoint-1", "teacher", "absent"),
    "cache_teacher": ("ram", "cache"), "output_dir": ("out", "student", "memory", "teacher", "data", "cache", "runs"),
    "alpha": ("1", "0"), "beta": ("0",), "gamma_g": ("0",), "gamma_m": ("0", "1"), "gamma_i": ("0",), "gamma_l": ("0",),
    "teacher_memory_path": ("memory", "memory/memory.safetensors", "student", "student/student_memory.safetensors"),
    "similarity": ("cka", "gram", "procrustes"), "student_memory_init": ("random", "centroids"),
    "method": ("fine-tuning", "pkd", "rkd", "KD"), "rkd_distance": ("0", "1"), "rkd_angle": ("0", "1"),
    "tokenizer_name": ("student", "data"), "config_name": ("student", "teacher"), "task_name": ("STS-B", "MNLI", "cola"),
    "max_train_samples": ("1", "2", "1000"), "per_gpu_train_batch_size": ("1", "100"), "max_seq_length": ("8", "64", "65"),
    "student_model_type": ("bert", "gpt2"), "model_type": ("bert", "roberta"), "model_name_or_path": (None, "student"),
}


def flags(rng, folder):
    """One to four changed flags, perhaps contradictory, of any program that trains."""
    script = rng.choice(MODELLED)
    given = sound_flags(script)
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.5:
            name = rng.choice(SWITCHES)
            given[name] = not given.get(name)
        else:
            name = rng.choice(sorted(SETTINGS))
            given[name] = rng.choice(SETTINGS[name])
    extra = {name: value for name, value in given.items() if sound_flags(script).get(name) != value}
    return Trial(script, f"flags {extra}", given)


PATH_FLAGS = (
    "model_name_or_path config_name tokenizer_name cache_dir student_model_name_or_path student_config_name data_dir task_name "
    "model_name_or_path_for_copy teacher_memory_path output_dir run_file results_file cache_teacher"
).split()


def paths(rng, folder):
    """An odd path or name for a flag: FIFOs, devices, loops and files of other kinds."""
    script = rng.choice((*MODELLED, "scripts/hold_out.py", "scripts/make_small_bert.py", "scripts/quickstart_report.py"))
    given = sound_flags(script)
    known = PATH_FLAGS if script in DISTILLING else sorted({*PATH_FLAGS[:4], "output_dir", "run_file"} | given.keys())
    if script.startswith("scripts/") and script not in MODELLED:
        known = [name for name, value in given.items() if isinstance(value, str)]
    name, value = rng.choice(known), rng.choice(ODD_TEXTS)
    if name in ("output_dir", "run_file", "cache_teacher", "cache_dir", "figure") and value in ("/", ".."):
        value = "fifo"  # never write outside the folder
    given[name] = value
    given |= {"copy_teacher": True} if name == "model_name_or_path_for_copy" else {}
    given |= {"overwrite_output_dir": True} if script in MODELLED and rng.random() < 0.3 else {}
    if script in DISTILLING and rng.random() < 0.2:
        given |= {"do_train": None, "overwrite_output_dir": None, "max_steps": None}
    return Trial(script, f"--{name} {value[:60]!r}", given, attached=value.startswith("-") or rng.random() < 0.3)


def places(rng, folder):
    """Outputs that clash with inputs or each other, a full disk, and files in place of folders."""
    script = rng.choice(MODELLED)
    given = sound_flags(script) | {"overwrite_output_dir": rng.random() < 0.5}
    if rng.random() < 0.35:
        limit = rng.choice((0, 1, 100, 1000, 4096, 20_000, 40_000, 100_000))
        if script in DISTILLING and rng.random() < 0.5:
            given["cache_teacher"] = "new-cache"
        return Trial(script, f"files of at most {limit} bytes", given, file_limit=limit)
    given["output_dir"] = rng.choice((
        "data", "data/RTE", "data/RTE/cached_encodings", "data/RTE/train.tsv", "cache", "memory", "runs", "teacher", "student",
        "student/checkpoint-1", ".", "teacher/..", "./teacher/", "link", "results.csv", "results.csv/x", "fifo", "new/a/b",
        "-new", "new\nline", "日本語", " ", "data/out", "teacher/out", "memory/out",
    ))
    name, value = rng.choice((
        ("model_name_or_path", "student/checkpoint-1"), ("model_name_or_path", "link"),
        ("teacher_memory_path", "memory/memory.safetensors"),
        ("student_config_name", "student/config.json"), ("results_file", given["output_dir"] + "/config.json"),
        ("results_file", given["output_dir"] + "/predictions"), ("run_file", given["output_dir"] + "/model.safetensors"),
        ("run_file", given["output_dir"]), ("cache_teacher", given["output_dir"]),
        ("cache_teacher", given["output_dir"] + "/tokenizer.json"),
        ("cache_teacher", "results.csv"), ("results_file", "fifo"), ("results_file", "data/RTE/train.tsv"), ("seed", "1"),
        ("results_file", "teacher/model.safetensors"), ("tokenizer_name", "memory"), ("run_file", "results.csv"),
        ("run_file", "fifo"),
        ("student_model_name_or_path", "student"), ("student_model_name_or_path", "student/checkpoint-1"),
        ("results_file", "null"),
        ("results_file", "loop"), ("results_file", "dangling"), ("results_file", "linked.csv"), ("cache_teacher", "data/RTE"),
    ))
    given[name] = value
    known = set(PATH_FLAGS) | {"seed"}
    if script == "train_memory.py" or script.startswith("scripts/"):
        known -= {"cache_teacher", "teacher_memory_path", "student_config_name", "student_model_name_or_path"}
        known -= {"results_file"} if script == "train_memory.py" else set()
    if script == "run_glue_intra_inter.py":
        known -= {"teacher_memory_path"}
    given = {flag: value for flag, value in given.items() if flag in known or flag in sound_flags(script) or value is True}
    return Trial(script, f"output_dir {given['output_dir']!r}, {name} {value!r}", given, attached=True)


def hub(rng, folder):
    """Hub names while the hub is offline: unknown ones, and one with downloaded files, damaged or not."""
    script = rng.choice(MODELLED)
    given = sound_flags(script)
    if rng.random() < 0.4:
        names = [name for name in PATH_FLAGS if "name" in name and name != "task_name"][: None if script in DISTILLING else 3]
        flag = rng.choice(names)
        names = ("bert-base-uncased", "some/bert", "a/b/c", "--", "a..b", "-a/b-", "some/" + "x" * 100, "ünï/cödé")
        given[flag] = rng.choice(names)
        given |= {"copy_teacher": True} if flag == "model_name_or_path_for_copy" else {}
        return Trial(script, f"--{flag} {given[flag]}", given, attached=True)
    repository = Path("hub/models--some--bert")
    shutil.copytree("teacher", repository / "snapshots/abc")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("abc")
    what = rng.choice((
        lambda: spoil_json(rng, repository / "snapshots/abc/config.json", CONFIG_NAMES),
        lambda: spoil_bytes(rng, repository / "snapshots/abc/model.safetensors"),
        lambda: spoil_bytes(rng, repository / "refs/main"),
        lambda: "sound",
    ))()
    return Trial(script, f"hub model: {what}", given | {"model_name_or_path": "some/bert", "cache_dir": "hub"})
