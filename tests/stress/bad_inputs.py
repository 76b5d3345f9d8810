"""Bad inputs of every kind for tests/stress/try_bad_input.py.

Each kind is a function (random generator, current folder) → :class:`Trial`. The folder is a copy of a good one (data,
teacher, student, memory, caches, results); the function may damage it.
"""

import csv
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

LENGTH = 16
DISTILLING = ("run_glue_intra_inter.py", "run_glue_global.py", "run_glue_all.py")
MODELLED = (*DISTILLING, "train_memory.py", "scripts/finetune_teacher.py")
CANARY = "canary"  # the file that a pickle makes if it is executed


@dataclass
class Trial:
    """One input: the program, its flags (None leaves one out, True is a switch), and its fault."""

    script: str
    what: str
    flags: dict = field(default_factory=dict)
    attached: bool = False  # --flag=value instead of --flag value
    file_limit: int | None = None  # largest file in bytes, to imitate a full disk

    @property
    def arguments(self):
        """The command line."""
        words = []
        for name, value in self.flags.items():
            if value is None or value is False:
                continue
            values = [value] if isinstance(value, (str, bool)) else [str(value)]
            words += [f"--{name}"] if value is True else [f"--{name}={values[0]}"] if self.attached else [f"--{name}", *values]
        return words


def sound_flags(script):
    """Flags with which the script succeeds in a good folder."""
    if script == "scripts/hold_out.py":
        return {"task_name": "RTE", "data_dir": "data", "output_dir": "held"}
    if script == "scripts/make_small_bert.py":
        return {"vocab": "data/vocab.txt", "output_dir": "bert", "hidden_size": 8, "num_hidden_layers": 1}
    if script == "scripts/make_toy_glue.py":
        return {"output_dir": "toy", "tasks": "RTE", "train_rows": 5, "dev_rows": 5, "test_rows": 5}
    if script == "scripts/quickstart_report.py":
        return {"results_file": "results.csv", "run_file": "runs", "data_dir": "data", "figure": "figure.png"}
    flags = {
        "model_name_or_path": "teacher", "task_name": "RTE", "data_dir": "data", "output_dir": "out", "do_train": True,
        "max_seq_length": LENGTH, "run_file": "runs",
    }
    if script == "train_memory.py":
        return flags | {"num_centroid": 3}
    flags |= {"do_eval": True, "max_steps": 1}
    if script in DISTILLING:
        flags |= {"beta": 1, "skip_teacher_eval": True}
    if script in DISTILLING[1:]:
        flags["teacher_memory_path"] = "memory"
    return flags


# Flags of the finished run in the folder "student", which has a checkpoint.
STUDENT_FLAGS = sound_flags("run_glue_global.py") | {
    "output_dir": "student", "cache_teacher": "cache", "do_predict": True, "max_steps": 2, "save_steps": 1,
}

# ---- Odd values, bytes and JSON ----

ODD_NUMBERS = (
    "-1", "0", "-0", "1", "2", "0.5", "1.5", "-0.5", "nan", "-nan", "inf", "-inf", "Infinity", "1e400", "-1e400", "1e308",
    "1e-320", "1e-40", "1e39", "1e30", "9" * 25, "9" * 5000, "-" + "9" * 5000, "0." + "0" * 5000 + "1", "0x10", "1_0", "１２",
    " 7 ", "", " ", "+3", "1e5", "abc", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "1,5",
    "½", "1\n2", "--", "\x1b[31m", "None", "true", "1e", ".", "१",
)
ODD_TEXTS = (
    "", " ", ".", "..", "/", "nowhere", "no/such/place", "a\nb", "日本語", "-x", "--help-me", "~", "$HOME", "a" * 300,
    "a/" * 2500,
    "\udcff\udcfe", "\x1b[2J", "data", "data/RTE/train.tsv", "teacher", "teacher/config.json", "results.csv", "fifo", "null",
    "full", "loop", "dangling", "http://localhost/x", "some/hub-name", "bert-base-nowhere", "*", "'",
)
ODD_VALUES = (
    None, True, False, "", "abc", "12", -1, 0, 1, 2, 3, 7, 1000, 10**6, 10**9, 10**12, 2**63, 10**400, 0.5, -0.5, 1e-300, 1e308,
    float("nan"), float("inf"), [], {}, [1], [None], {"a": 1}, "../../secret", "/etc/passwd", "\x00", "\ud800", "x" * 10000,
)


def odd_bytes(rng, content):
    """(what was done, the damaged content)."""
    at = rng.randrange(len(content) + 1)
    end = min(len(content), at + rng.choice((1, 10, 1000)))
    noise = rng.randbytes(rng.choice((1, 16, 300)))
    text = content.decode("utf-8", "replace")
    return rng.choice((
        lambda: ("empty", b""),
        lambda: ("only white space", b" \r\n\t\n"),
        lambda: (f"cut at byte {at}", content[:at]),
        lambda: (f"bytes {at} to {end} missing", content[:at] + content[end:]),
        lambda: (f"{len(noise)} random bytes at {at}", content[:at] + noise + content[at:]),
        lambda: (f"bytes from {at} written over", content[:at] + noise + content[at + len(noise) :]),
        lambda: (f"NULs at {at}", content[:at] + b"\0" * 9 + content[at:]),
        lambda: (f"one bit of byte {at} flipped", content[:at] + bytes([(content + b" ")[at] ^ 4]) + content[at + 1 :]),
        lambda: (f"bytes {at} to {end} twice", content[:end] + content[at:]),
        lambda: ("CRLF", content.replace(b"\n", b"\r\n")),
        lambda: ("lone CR", content.replace(b"\n", b"\r")),
        lambda: ("UTF-16", text.encode("utf-16")),
        lambda: ("Latin-1", text.replace("e", "é").encode("latin-1", "replace")),
        lambda: ("UTF-8 with a mark", b"\xef\xbb\xbf" + content),
        lambda: ("a huge line", content[:at] + b"word " * 200_000 + content[at:]),
        lambda: ("a huge word", content[:at] + b"x" * 1_000_000 + content[at:]),
        lambda: ("Unicode's odd characters", content[:at] + "\u2028\u200b\u202e\U0001f600\ufdd0é\u0301".encode() + content[at:]),
        lambda: ("a control character", content[:at] + b"\x1b[31m\x07\x08" + content[at:]),
        lambda: ("random bytes instead", noise),
        lambda: ("a zip archive's start", b"PK\x03\x04" + content),
    ))()


def odd_json(rng, value, names=()):
    """(what was done, the JSON value with one change); ``names`` are keys that may be added."""
    places = list(json_places(value)) or [(None, None)]
    holder, key = rng.choice(places)
    if names and rng.random() < 0.6:
        holder, key = value, rng.choice(names)
    odd = rng.choice(ODD_VALUES)
    if holder is None:
        return "another value", odd
    if rng.random() < 0.15 and key in (holder if isinstance(holder, dict) else range(len(holder))):
        del holder[key]
        return f"{key!r} missing", value
    holder[key] = odd
    return f"{key!r} is {str(odd)[:40]!r}", value


def json_places(value):
    """(container, key) of every entry at any depth; only the first twenty of long lists and dictionaries."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())[:20]
    for key, child in entries:
        yield value, key
        yield from json_places(child)


def spoil_bytes(rng, path):
    """Damage a file's bytes; returns what was done."""
    what, content = odd_bytes(rng, path.read_bytes())
    path.write_bytes(content)
    return f"{path}: {what}"


def spoil_json(rng, path, names=()):
    """Damage a JSON file, mostly its values; returns what was done."""
    chance = rng.random()
    if chance < 0.15:
        return spoil_bytes(rng, path)
    if chance < 0.18:
        path.write_text("[" * 100_000)
        return f"{path}: nested too deep"
    what, value = odd_json(rng, json.loads(path.read_text(encoding="utf-8")), names)
    for _ in range(rng.choice((0, 0, 1, 3))):
        if isinstance(value, dict):
            more, value = odd_json(rng, value, names)
            what += f", {more}"
    path.write_text(json.dumps(value))
    return f"{path}: {what}"


def merge(path, **values):
    """Set entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values))


def spoil_tensors(rng, path):
    """Damage a safetensors file: its bytes, its header, or a tensor; returns what was done."""
    import torch
    from safetensors.torch import load_file, save_file

    chance = rng.random()
    if chance < 0.3:
        return spoil_bytes(rng, path)
    content = path.read_bytes()
    if chance < 0.6:
        size = int.from_bytes(content[:8], "little")
        what, header = odd_json(rng, json.loads(content[8 : 8 + size]))
        header = json.dumps(header).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
        return f"{path}: header: {what}"
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    value = tensors[name]
    dtype = rng.choice((torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn))
    what, odd = rng.choice((
        lambda: ("NaN", value.float() * torch.nan), lambda: ("infinity", value.float() + torch.inf),
        lambda: ("one NaN", value.float().flatten().index_fill(0, torch.tensor(0), torch.nan).view(value.shape)),
        lambda: (f"as {dtype}", value.to(dtype)), lambda: ("empty", value.flatten()[:0]), lambda: ("scalar", value.flatten()[0]),
        lambda: ("flat", value.flatten()), lambda: ("halved", value.flatten()[: value.numel() // 2]),
        lambda: ("doubled", torch.cat([value.flatten()] * 2)), lambda: ("another axis", value[None]),
        lambda: ("huge", (value.float() + 1) * 1e38), lambda: ("zero", value * 0), lambda: ("negative", -abs(value) - 1),
        lambda: ("missing", None), lambda: ("renamed", ...),
    ))()
    tensors.pop(name)
    tensors |= {} if odd is None else {"odd/" + name: value} if odd is ... else {name: odd.contiguous()}
    save_file(tensors, path, metadata)
    return f"{path}: {name} {what}"


# ---- Kinds of input: each a function (random generator, folder to damage) → Trial; the folder is the current one ----


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
        "run_glue_intra_inter.py": distilling, "run_glue_global.py": [*distilling, "gamma_m"],
        "run_glue_all.py": [*distilling, "gamma_m", "gamma_i", "gamma_l", "gamma_g"], "scripts/finetune_teacher.py": training,
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
    "copy_teacher do_layerwise mask_padding group_by_length fp16 bf16 no_cuda do_lower_case skip_teacher_eval internal"
).split()
SETTINGS = {
    "model_name_or_path_for_copy": ("teacher", "student"), "student_config_name": ("student/config.json", "teacher"),
    "student_model_name_or_path": ("out", "student", "student/checkpoint-1", "teacher", "absent"),
    "cache_teacher": ("ram", "cache"), "output_dir": ("out", "student", "memory", "teacher", "data", "cache", "runs"),
    "alpha": ("1", "0"), "beta": ("0",), "gamma_g": ("0",), "gamma_m": ("0", "1"), "gamma_i": ("0",), "gamma_l": ("0",),
    "teacher_memory_path": ("memory", "memory/memory.safetensors", "student", "student/student_memory.safetensors"),
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
    if script.startswith("scripts/") and script != "scripts/finetune_teacher.py":
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


def tsv(rng, folder):
    """A damaged data file of any task and split."""
    task = rng.choice(("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"))
    path = rng.choice(sorted((folder / "data" / task).glob("*.tsv")))
    script = rng.choice(("scripts/finetune_teacher.py", "scripts/finetune_teacher.py", "scripts/hold_out.py"))
    if task == "RTE" and rng.random() < 0.5:
        script = rng.choice(("run_glue_intra_inter.py", "train_memory.py"))
    chance = rng.random()
    if chance < 0.5:
        what = spoil_bytes(rng, path)
    elif chance < 0.55:
        path.unlink()
        os.mkfifo(path)
        what = f"{path}: a FIFO"
    else:
        lines = path.read_text(encoding="utf-8").split("\n")
        at = rng.randrange(len(lines))
        cells = lines[at].split("\t")
        cell = rng.randrange(len(cells))
        cells[cell : cell + 1] = rng.choice((
            [], [cells[cell]] * 2, ["\x85"], ["\r"], [""], ["9"], ["-1"], ["nan"], ["1e400"], ["5.0001"], ['"'], ["entailment "],
            [" "], ["١"], ["0x1"], ["label"], ["\u2028"],
        ))
        lines[at] = "\t".join(cells)
        path.write_text("\n".join(lines[: rng.choice((len(lines), at + 1))]), encoding="utf-8")
        what = f"{path}:{at + 1}: field {cell}"
    given = sound_flags(script) | {"task_name": task, "data_dir": rng.choice(("data", f"data/{task}"))}
    if script == "scripts/finetune_teacher.py":
        given["do_predict"] = True
    return Trial(script, what, given)


def model_trial(rng, what):
    """A program that reads the damaged teacher/ or student/: (Trial)."""
    if what.startswith("student/checkpoint-1"):
        given = sound_flags("run_glue_all.py") | {"do_train": None, "output_dir": "student", "eval_all_checkpoints": True}
        return Trial("run_glue_all.py", what, given)
    if what.startswith("student"):
        chosen = rng.choice(("start", "evaluate", "copy", "shape"))
        given = sound_flags("run_glue_intra_inter.py")
        given |= {
            "start": {"student_model_name_or_path": "student"}, "evaluate": {"do_train": None, "output_dir": "student"},
            "copy": {"copy_teacher": True, "model_name_or_path_for_copy": "student"},
            "shape": {"student_config_name": "student/config.json"},
        }[chosen]
        return Trial("run_glue_intra_inter.py", f"{what} ({chosen})", given)
    script = rng.choice(MODELLED)
    return Trial(script, what, sound_flags(script))


CONFIG_NAMES = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings type_vocab_size "
    "hidden_act hidden_dropout_prob attention_probs_dropout_prob classifier_dropout initializer_range layer_norm_eps "
    "pad_token_id id2label label2id num_labels model_type architectures dtype torch_dtype _attn_implementation "
    "quantization_config auto_map transformers_weights return_dict output_attentions output_hidden_states is_decoder "
    "add_cross_attention chunk_size_feed_forward problem_type pruned_heads tie_word_embeddings gradient_checkpointing "
    "position_embedding_type tokenizer_class is_encoder_decoder use_cache transformers_version _name_or_path "
    "attn_implementation adapters base_model_name_or_path torchscript use_bfloat16 vocab_size hidden_size "
    "num_hidden_layers num_attention_heads"
).split()


def config(rng, folder):
    """A damaged config.json of a teacher, a student, a model to copy from or a student shape."""
    role = rng.choice(("teacher", "student", "student/checkpoint-1"))
    return model_trial(rng, spoil_json(rng, Path(role, "config.json"), CONFIG_NAMES))


def weights(rng, folder):
    """Damaged weights of a teacher, a starting student, a model to copy from or a model to evaluate."""
    role = rng.choice(("teacher", "student", "student/checkpoint-1"))
    return model_trial(rng, spoil_tensors(rng, Path(role, "model.safetensors")))


TEMPLATE = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}}
SECOND_TEXT = {"Sequence": {"id": "B", "type_id": 300}}
TOKENIZER_PARTS = (
    ("normalizer", {"type": "Prepend", "prepend": "x"}), ("normalizer", None), ("pre_tokenizer", None), ("decoder", None),
    ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": ""}), ("post_processor", None),
    ("model", {"type": "WordLevel", "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2}, "unk_token": "[UNK]"}),
    ("model", {"type": "BPE", "vocab": {"a": 0}, "merges": []}), ("model", {"type": "Unigram", "vocab": []}),
    ("padding", {"strategy": {"Fixed": 10**9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 10**6,
                 "pad_type_id": 9, "pad_token": "x"}),
    ("truncation", {"direction": "Left", "max_length": 1, "strategy": "OnlyFirst", "stride": 10**6}),
    ("post_processor", {"type": "BertProcessing", "sep": ["[SEP]", 10**9], "cls": ["[CLS]", 3]}),
    ("post_processor", TEMPLATE | {"pair": TEMPLATE["single"]}),
    ("post_processor", TEMPLATE | {"pair": [*TEMPLATE["single"], SECOND_TEXT]}),
)
TOKENIZER_CLASSES = (
    "GPT2Tokenizer", "LlamaTokenizer", "BertJapaneseTokenizer", "T5Tokenizer", "PreTrainedTokenizerFast", "ByT5Tokenizer",
    "os.system", "BertTokenizerFast", "CanineTokenizer",
)
TOKENIZER_NAMES = (
    "tokenizer_class do_lower_case auto_map tokenizer_file vocab_file added_tokens_decoder pad_token cls_token sep_token "
    "unk_token mask_token model_max_length padding_side truncation_side extra_special_tokens chat_template init_inputs "
    "backend strip_accents tokenize_chinese_chars special_tokens_map_file name_or_path"
).split()


def tokenizer(rng, folder):
    """A damaged tokenizer: tokenizer.json, tokenizer_config.json, or vocab.txt and nothing else."""
    role = Path(rng.choice(("teacher", "student")))
    spoil = rng.choice((spoil_vocabulary, spoil_tokenizer, spoil_tokenizer_config, spoil_special_tokens))
    trial = model_trial(rng, spoil(rng, role))
    if rng.random() < 0.2:
        trial.flags |= {"tokenizer_name": str(role)}
    if rng.random() < 0.2:
        trial.flags |= {"do_lower_case": True}
    return trial


def spoil_vocabulary(rng, role):
    path = role / "vocab.txt"
    (role / "tokenizer.json").unlink()
    shutil.copy("data/vocab.txt", path)
    if rng.random() < 0.5:
        return spoil_bytes(rng, path)
    entries = path.read_text().split("\n")
    lacking = rng.choice(("[SEP]", "[UNK]", "[PAD]", "[CLS]"))
    what, odd = rng.choice((
        ("duplicates", entries[:50] + entries), (f"no {lacking}", [entry for entry in entries if entry != lacking]),
        ("more entries", entries + [f"new{i}" for i in range(999)]), ("reversed", entries[::-1]),
        ("fewer entries", entries[:100]), ("blank lines", entries[:9] + [""] * 9 + entries[9:]),
    ))
    path.write_text("\n".join(odd))
    return f"{path}: {what}"


def spoil_special_tokens(rng, role):
    path = role / rng.choice(("special_tokens_map.json", "added_tokens.json"))
    added = {"[CLS]": 5, "[NEW]": 10**6, "pad_token": "[PAD]"}
    path.write_text(json.dumps(added if path.name.startswith("added") else {"pad_token": "[PAD]"}))
    if rng.random() < 0.5:
        (role / "tokenizer_config.json").unlink()
    return spoil_json(rng, path, ("[NEW]", "pad_token", "cls_token", "unk_token", "additional_special_tokens"))


def spoil_tokenizer(rng, role):
    path = role / "tokenizer.json"
    if rng.random() < 0.6:
        return spoil_json(rng, path, [part for part, _ in TOKENIZER_PARTS])
    part, odd = rng.choice(TOKENIZER_PARTS)
    merge(path, **{part: odd})
    if rng.random() < 0.7:  # BertTokenizer would make its own template and model
        merge(role / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    return f"{path}: {part} {str(odd)[:60]}"


def spoil_tokenizer_config(rng, role):
    path = role / "tokenizer_config.json"
    if rng.random() < 0.7:
        return spoil_json(rng, path, TOKENIZER_NAMES)
    name = rng.choice(TOKENIZER_CLASSES)
    merge(path, tokenizer_class=name)
    return f"{path}: tokenizer_class {name}"


def memory(rng, folder):
    """A damaged teacher memory."""
    script = rng.choice(DISTILLING[1:])
    return Trial(script, spoil_tensors(rng, Path("memory", "memory.safetensors")), sound_flags(script))


def encodings(rng, folder):
    """A damaged cache of an encoding; the program makes a new one."""
    path = rng.choice(sorted(Path("data/RTE/cached_encodings").glob("*.safetensors")))
    what = spoil_tensors(rng, path)
    script = rng.choice(("run_glue_intra_inter.py", "train_memory.py", "scripts/finetune_teacher.py"))
    return Trial(script, what, sound_flags(script) | ({"do_predict": True} if script != "train_memory.py" else {}))


def teacher_cache(rng, folder):
    """A damaged cache of the teacher's outputs; the program makes a new one."""
    path = rng.choice(sorted(path for path in Path("cache").rglob("*") if path.suffix in (".npy", ".json")))
    if rng.random() < 0.7:
        what = spoil_json(rng, path) if path.suffix == ".json" else spoil_bytes(rng, path)
    else:
        path.unlink()
        what = f"{path}: {rng.choice(('missing', 'a folder', 'a FIFO'))}"
        if "folder" in what:
            path.mkdir()
        if "FIFO" in what:
            os.mkfifo(path)
    return Trial("run_glue_intra_inter.py", what, sound_flags("run_glue_intra_inter.py") | {"cache_teacher": "cache"})


def results(rng, folder):
    """A damaged results file, for a program that adds to it or reads it."""
    path = Path("results.csv")
    if rng.random() < 0.5:
        what = spoil_bytes(rng, path)
    else:
        rows = list(csv.reader(path.open()))
        row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
        rows[row][column] = rng.choice(("", "x", "nan", "1e400", "a\nb", '"', "../teacher", "KD", "FSD_I", "teacher", "=1+1"))
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        what = f"{path}: row {row}, column {column} is {rows[row][column]!r}"
    script = rng.choice(("run_glue_intra_inter.py", "scripts/finetune_teacher.py", "scripts/quickstart_report.py"))
    return Trial(script, what, sound_flags(script))


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


class Exploit:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


def pickles(rng, folder):
    """A pickle that executes code, in place of a file or beside it, as pickle, PyTorch archive or NumPy array."""
    import pickle

    import numpy as np
    import torch

    path = Path(rng.choice((
        "teacher/model.safetensors", "student/model.safetensors", "memory/memory.safetensors", "teacher/tokenizer.json",
        "teacher/config.json", "student/student_memory.safetensors", "teacher/pytorch_model.bin", "student/pytorch_model.bin",
        "memory.bin", "memory/memory.bin", "teacher/vocab.txt", "teacher/model.safetensors.index.json", "teacher/tokenizer.pkl",
        "teacher/adapter_model.bin", "student/training_args.bin", "data/RTE/train.tsv", "results.csv", "teacher/tf_model.h5",
        "data/RTE/cached_encodings", "cache", "teacher/pytorch_model.bin.index.json", "teacher/flax_model.msgpack",
    )))
    if path.is_dir():
        path = rng.choice(sorted(file for file in path.rglob("*") if file.suffix in (".npy", ".json", ".safetensors")))
    if path.suffix == ".bin" and rng.random() < 0.7:
        (path.parent / "model.safetensors").unlink(missing_ok=True)
    how = rng.choice(("pickle", "archive", "legacy archive", "array"))
    with open(path, "wb") as file:
        if how == "pickle":
            pickle.dump(Exploit(), file)
        elif how == "array":
            np.save(file, np.array([Exploit()], dtype=object), allow_pickle=True)
        else:
            torch.save({"classifier.bias": Exploit()}, file, _use_new_zipfile_serialization=how == "archive")
    trial = model_trial(rng, f"{path}: {how} that executes code")
    if "memory" in path.parts[0]:
        trial = Trial("run_glue_global.py", trial.what, sound_flags("run_glue_global.py") | {
            "teacher_memory_path": "memory" if path.parts[0] == "memory" and rng.random() < 0.5 else path})
    if path.parts[0] == "cache":
        trial = Trial("run_glue_intra_inter.py", trial.what, sound_flags("run_glue_intra_inter.py") | {"cache_teacher": "cache"})
    return trial


def outside(rng, folder):
    """Files whose content names other files or code, inside or outside their folder."""
    secret = Path("secret")
    shutil.copytree("student", secret)
    (secret / "evil.py").write_text(f"open({CANARY!r}, 'w')\nclass Evil: pass\n")
    shutil.copy(secret / "evil.py", "teacher/evil.py")
    target = rng.choice(("../secret", str(secret.resolve()), "inside/../../secret", "."))
    kind = rng.choice(("index", "config", "config code", "tokenizer code", "tokenizer files", "adapter", "link", "template"))
    config_path, tokenizer_path = Path("teacher/config.json"), Path("teacher/tokenizer_config.json")
    if kind == "index":
        Path("teacher/model.safetensors").rename("teacher/weights.safetensors" if target == "." else "secret/weights.safetensors")
        names = ["bert.pooler.dense.bias", "classifier.bias"]
        place = f"{target}/{rng.choice(('weights', 'model'))}.safetensors"
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, place)}
        Path("teacher/model.safetensors.index.json").write_text(json.dumps(index))
        if rng.random() < 0.3:
            spoil_json(rng, Path("teacher/model.safetensors.index.json"))
    elif kind == "config":
        merge(config_path, transformers_weights=f"{target}/model.safetensors")
    elif kind == "config code":
        merge(config_path, auto_map={"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"},
              model_type=rng.choice(("bert", "evil", None)))
    elif kind == "tokenizer code":
        merge(tokenizer_path, auto_map={"AutoTokenizer": ["evil.Evil", rng.choice(("evil.Evil", None))]},
              tokenizer_class=rng.choice(("Evil", "BertTokenizer", None)))
    elif kind == "tokenizer files":
        name = rng.choice(("tokenizer_file", "vocab_file", "spm_file", "name_or_path"))
        merge(tokenizer_path, **{name: f"{target}/tokenizer.json"})
        if rng.random() < 0.7:
            Path("teacher/tokenizer.json").unlink()
    elif kind == "adapter":
        Path("teacher/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": target, "peft_type": "LORA"}))
    elif kind == "link":
        Path("teacher/model.safetensors").unlink()
        places = ("../secret/model.safetensors", "model.safetensors", "/dev/zero", "/dev/null")
        Path("teacher/model.safetensors").symlink_to(Path(rng.choice(places)))
    else:
        Path("teacher/chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    script = rng.choice(MODELLED)
    return Trial(script, f"teacher: {kind} {target if 'code' not in kind else ''}", sound_flags(script))


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


def resumed(rng, folder):
    """A run killed after its first step, with one damaged file, or resumed with another flag."""
    run, checkpoint = Path("student"), Path("student/checkpoint-1")
    for path in (run / "training_args.json", checkpoint / "training_args.json"):
        merge(path, finished=False)
    given = STUDENT_FLAGS | {"resume": True}
    if rng.random() < 0.3:
        given |= {"resume": None, "student_model_name_or_path": str(checkpoint), "output_dir": rng.choice(("student", "out"))}
    if rng.random() < 0.2:
        other = {"alpha": "1", "beta": "1", "seed": "1", "max_steps": "1", "cache_teacher": None, "max_seq_length": "24",
                 "mask_padding": True, "results_file": "x.csv"}
        name = rng.choice(sorted(other))
        given[name] = other[name]
        return Trial("run_glue_global.py", f"resumed with --{name} {given[name]}", given)
    name = rng.choice(("training_state.json", "training_state.safetensors", "model.safetensors", "student_memory.safetensors",
                       "training_args.json", "config.json", "../training_args.json"))
    path = Path(os.path.normpath(checkpoint / name))
    if rng.random() < 0.2:
        path.unlink()
        return Trial("run_glue_global.py", f"resumed: {path} missing", given)
    names = ("run", "finished", "settings", "arguments", "step", "seconds", "files")
    what = spoil_json(rng, path, names) if path.suffix == ".json" else spoil_tensors(rng, path)
    return Trial("run_glue_global.py", f"resumed: {what}", given)


def report(rng, folder):
    """A damaged run for quickstart_report.py: its settings, its TensorBoard file, its model."""
    path = rng.choice(("student/training_args.json", "student/config.json", "student/model.safetensors", "runs"))
    if path == "runs":
        path = rng.choice(sorted(file for file in Path("runs").rglob("*events*") if "FSD_G" in str(file)))
    path = Path(path)
    names = ("arguments", "max_seq_length", "do_lower_case")
    what = spoil_json(rng, path, names) if path.suffix == ".json" else spoil_bytes(rng, path)
    return Trial("scripts/quickstart_report.py", what, sound_flags("scripts/quickstart_report.py"))


def vocabulary(rng, folder):
    """A damaged vocabulary for make_small_bert.py."""
    path = Path("data/vocab.txt")
    entries = path.read_text().split("\n")
    if rng.random() < 0.6:
        what = spoil_bytes(rng, path)
    else:
        what = rng.choice(("twice", "no [UNK]", "blank lines", "a FIFO"))
        odd = {"twice": entries[:-1] * 2, "no [UNK]": [e for e in entries if e != "[UNK]"], "blank lines": ["", "", *entries]}
        if what == "a FIFO":
            path.unlink()
            os.mkfifo(path)
        else:
            path.write_text("\n".join(odd[what]))
    return Trial("scripts/make_small_bert.py", f"{path}: {what}", sound_flags("scripts/make_small_bert.py"))


KINDS = {  # kind of input: share of the inputs
    numbers: 20, flags: 12, paths: 12, tsv: 10, config: 12, weights: 7, tokenizer: 10, memory: 4, encodings: 4, teacher_cache: 2,
    results: 3, places: 7, pickles: 4, outside: 4, vocabulary: 2, hub: 3, report: 3,
    resumed: 6,
}
