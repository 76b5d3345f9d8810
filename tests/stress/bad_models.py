"""Kinds of bad input in models' folders: damaged configs, weights and tokenizers, pickles, and names of files elsewhere."""

import json
import os
import shutil
from pathlib import Path

from spoiling import merge, spoil_bytes, spoil_json, spoil_tensors
from trials import CANARY, MODELLED, Trial, sound_flags


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
