"""Teacher and student: loading, building, copying."""

import copy
import hashlib
import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification
from transformers.utils import logging as transformers_logging

from fsd.files import InputError
from fsd.glue import label_order
from fsd.hub import model_folder
from fsd.model_files import check_tokenizer_files, check_weights, read_config
from fsd.seeds import stream_seed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Copied:
    """Which of a student's parameters were copied, and which are drawn afresh."""

    source: str
    copied: tuple
    fresh: tuple

    def describe(self, student):
        """One line: what was copied, what drawn afresh, and how many values each is."""
        sizes = {name: parameter.numel() for name, parameter in student.named_parameters()}
        copied, fresh = (
            f"{_grouped(names) or 'nothing'} ({sum(sizes[name] for name in names):,} values)"
            for names in (self.copied, self.fresh)
        )
        return f"copied from {self.source}: {copied}; drawn afresh: {fresh}" if self.copied else f"drawn afresh: {fresh}"


@contextmanager
def quiet_loading():
    """Silence the model loader's own reports and bars; ours are printed instead."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def load_pretrained(name_or_path, flag, config=None, cache_dir=None):
    """A ``BertForSequenceClassification`` from a folder or the hub, and the names of parameters it did not hold.

    Raises:
        InputError: it cannot be loaded, is no BERT, or holds weights that are not finite; names ``flag``.
    """
    what, folder = f"{flag} {name_or_path}", model_folder(name_or_path, flag, cache_dir)
    config = config or read_config(folder, what)
    check_weights(folder, what)
    try:
        with quiet_loading():
            model, info = BertForSequenceClassification.from_pretrained(
                folder, config=config, output_loading_info=True, dtype=torch.float32, attn_implementation="sdpa",
                use_safetensors=True,
            )
    except Exception as error:  # the loader raises anything from OSError to safetensors' own errors
        raise InputError(f"{what}: cannot load the model: {_first_line(error)}; restore its files") from error
    if damaged := not_finite(model):
        raise InputError(f"{what}: {damaged} holds NaN or infinity; the model is damaged, name another")
    missing = {str(name) for name in info["missing_keys"]}
    if any(name.startswith("bert.encoder") for name in missing):
        raise InputError(f"{what}: its weights lack encoder layers that its config names; restore its files")
    return model, missing


def load_config(name_or_path, flag, cache_dir=None):
    """The BERT config in a folder, at a hub name, or in a config.json.

    Raises:
        InputError: it cannot be read, or is not a BERT's; names ``flag``.
    """
    return read_config(model_folder(name_or_path, flag, cache_dir), f"{flag} {name_or_path}")


def load_tokenizer(args, name_or_path=None, flag="--model_name_or_path"):
    """The tokenizer of the model named by the arguments, lower-casing if ``--do_lower_case`` is given.

    Raises:
        InputError: it cannot be loaded, or lacks a token that BERT needs; names ``flag``.
    """
    name_or_path = args.tokenizer_name or name_or_path or args.model_name_or_path
    flag = "--tokenizer_name" if args.tokenizer_name else flag
    what, folder = f"{flag} {name_or_path}", model_folder(name_or_path, flag, args.cache_dir)
    check_tokenizer_files(folder, what)

    def load(**options):
        # A config, so that none is read from the folder, which may be a tokenizer's alone.
        return AutoTokenizer.from_pretrained(folder, config=BertConfig(), trust_remote_code=False, **options)

    try:
        with quiet_loading():
            tokenizer = load()
            if args.do_lower_case and not getattr(tokenizer, "do_lower_case", True):
                logger.warning("--do_lower_case: the tokenizer at %s was saved as cased; lower-casing all the same", name_or_path)
                tokenizer = load(do_lower_case=True)
        needed = tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id
    except Exception as error:  # anything from OSError to the tokenizers library's own
        raise InputError(f"{what}: cannot load a tokenizer: {_first_line(error)}; restore its files") from error
    if not tokenizer.is_fast:
        raise InputError(f"{what}: it has no fast tokenizer; name a BERT's with --tokenizer_name")
    if None in needed:
        raise InputError(f"{what}: the tokenizer lacks [PAD], [CLS] or [SEP]; name a BERT's with --tokenizer_name")
    return tokenizer


def load_teacher(args, task, tokenizer):
    """The frozen teacher in eval mode, its classifier in the task's order of labels.

    Raises:
        InputError: it cannot be loaded, its classifier is missing or does not fit the task, or its sizes do not fit
            the tokenizer or ``--max_seq_length``.
    """
    config = load_config(args.config_name, "--config_name", args.cache_dir) if args.config_name else None
    return freeze(load_finetuned(args, args.model_name_or_path, "--model_name_or_path", task, tokenizer, config))


def load_finetuned(args, name_or_path, flag, task, tokenizer, config=None):
    """A model of the task, its classifier in the task's order of labels.

    Raises:
        InputError: it cannot be loaded, its classifier is missing or does not fit the task, or its sizes do not fit
            the tokenizer or ``--max_seq_length``; names ``flag``.
    """
    what, remedy = f"{flag} {name_or_path}", "fine-tune one on this task with scripts/finetune_teacher.py"
    config = config or load_config(name_or_path, flag, args.cache_dir)
    if config.num_labels != task.num_logits:
        raise InputError(f"{what}: a model with {config.num_labels} label(s), {task.name} has {task.num_logits}; {remedy}")
    check_fits(config, tokenizer, args.max_seq_length, what)
    model, missing = load_pretrained(name_or_path, flag, config, args.cache_dir)
    if missing:
        raise InputError(f"{what}: not fine-tuned, it lacks {_grouped(sorted(missing))}; {remedy}")
    put_labels_in_order(model, task, what)
    return model


def freeze(model):
    """The model in eval mode, none of its parameters taking gradients."""
    return model.eval().requires_grad_(False)


def put_labels_in_order(model, task, what):
    """Permute the classifier to the task's order of labels, where the model's config has names in another one."""
    if task.regression:
        return
    try:
        order = label_order(task, model.config.id2label)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    if order is not None and order != list(range(len(order))):
        logger.info("%s has its labels in another order than %s: its classifier is put in the task's", what, task.name)
        with torch.no_grad():
            model.classifier.weight.copy_(model.classifier.weight[order].clone())
            model.classifier.bias.copy_(model.classifier.bias[order].clone())
    name_labels(model.config, task)


def name_labels(config, task):
    """Write the task's label names into a model's config."""
    if not task.regression:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: index for index, label in enumerate(task.labels)}


def check_fits(config, tokenizer, max_seq_length, what):
    """Refuse a config whose embeddings are too few for the tokenizer's ids or for ``--max_seq_length``."""
    if max_seq_length > config.max_position_embeddings:
        raise InputError(f"--max_seq_length {max_seq_length}: {what} has {config.max_position_embeddings} positions; lower it")
    if (entries := max(tokenizer.get_vocab().values()) + 1) > config.vocab_size:
        raise InputError(f"{what}: its {config.vocab_size} embeddings are fewer than the tokenizer's {entries} entries; "
                         "name the model's own tokenizer with --tokenizer_name")  # fmt: skip
    if config.type_vocab_size < 2:
        raise InputError(f"{what}: it has no token type for second texts (type_vocab_size 1); name another model")


def student_config(args, teacher_config, task):
    """The student's config: the teacher's with half its layers, or ``--student_config_name``'s, for this task."""
    if args.student_config_name:
        config = load_config(args.student_config_name, "--student_config_name", args.cache_dir)
    else:
        config = copy.deepcopy(teacher_config)
        config.num_hidden_layers = teacher_config.num_hidden_layers // 2
    if config.num_hidden_layers < 1:
        raise InputError("the student has no layers: give its shape with --student_config_name")
    config.num_labels = task.num_logits
    name_labels(config, task)
    return config


def new_bert(config, seed):
    """A ``BertForSequenceClassification`` with BERT's random initialisation, from the seed's own stream "student"."""
    with torch.random.fork_rng(devices=[]), quiet_loading():
        torch.manual_seed(stream_seed(seed, "student"))
        try:
            return BertForSequenceClassification._from_config(config, attn_implementation="sdpa")
        except (ValueError, RuntimeError) as error:
            raise InputError(f"these sizes make no BERT: {_first_line(error)}; give others") from error


def build_for_finetuning(args, task, tokenizer):
    """The pretrained model of the arguments under a freshly drawn classifier for the task: (model, :class:`Copied`)."""
    flag, path = "--model_name_or_path", args.model_name_or_path
    config = load_config(args.config_name, "--config_name", args.cache_dir) if args.config_name else None
    pretrained, missing = load_pretrained(path, flag, config, args.cache_dir)
    check_fits(pretrained.config, tokenizer, args.max_seq_length, f"{flag} {path}")
    model, fresh = with_fresh_parts(pretrained, task, args.seed, missing)
    names = [name for name, _ in model.named_parameters()]
    return model, Copied(path, tuple(n for n in names if n not in fresh), tuple(n for n in names if n in fresh))


def build_student(args, teacher, task, tokenizer):
    """A student at its start: fresh, copied, or loaded, as the arguments say.

    Returns:
        (student, :class:`Copied`)
    """
    start = starting_student(args)
    if start:
        if args.copy_teacher:
            raise InputError(f"--copy_teacher and the starting student {start} exclude each other: leave one of them out")
        if args.student_config_name:
            raise InputError(f"--student_config_name and the starting student {start} exclude each other: leave one of them out")
        student, missing = load_pretrained(start, "--student_model_name_or_path", cache_dir=args.cache_dir)
        if missing or student.config.num_labels != task.num_logits:
            student, missing = with_fresh_parts(student, task, args.seed, missing)
        put_labels_in_order(student, task, f"--student_model_name_or_path {start}")
        check_fits(student.config, tokenizer, args.max_seq_length, f"--student_model_name_or_path {start}")
        names = [name for name, _ in student.named_parameters()]
        return student, Copied(start, tuple(n for n in names if n not in missing), tuple(n for n in names if n in missing))
    config = student_config(args, teacher.config, task)
    check_fits(config, tokenizer, args.max_seq_length, "--student_config_name" if args.student_config_name else "the student")
    student = new_bert(config, args.seed)
    if not args.copy_teacher:
        return student, Copied("", (), tuple(name for name, _ in student.named_parameters()))
    source_name, source, missing = args.model_name_or_path_for_copy, teacher, set()
    if source_name:
        source, missing = load_pretrained(source_name, "--model_name_or_path_for_copy", cache_dir=args.cache_dir)
        if source.config.num_labels == task.num_logits and "classifier.weight" not in missing:
            put_labels_in_order(source, task, f"--model_name_or_path_for_copy {source_name}")
    copied = copy_matching(student, source, missing)
    if not copied:
        source_name = source_name or "the teacher"
        raise InputError(f"--copy_teacher: no parameter of {source_name} matches the student's in name and shape")
    fresh = tuple(name for name, _ in student.named_parameters() if name not in copied)
    return student, Copied(source_name or args.model_name_or_path, copied, fresh)


def starting_student(args):
    """The model that ``--student_model_name_or_path`` names as the student's start, or None for a fresh student."""
    name = args.student_model_name_or_path
    if not name or os.path.realpath(name) == os.path.realpath(args.output_dir):
        return None
    if Path(name).exists():
        return name
    try:
        model_folder(name, "--student_model_name_or_path", args.cache_dir)
    except InputError:
        logger.info("--student_model_name_or_path %s: no folder and no model on the hub, so the student starts afresh", name)
        return None
    return name


def with_fresh_parts(model, task, seed, missing=frozenset()):
    """The model with its ``missing`` parameters and its classifier drawn afresh for the task, from the seed's stream.

    Returns:
        (model, names of the fresh parameters)
    """
    config = copy.deepcopy(model.config)
    config.num_labels = task.num_logits
    name_labels(config, task)
    fresh = new_bert(config, seed)
    copied = copy_matching(fresh, model, {"classifier.weight", "classifier.bias", *missing})
    return fresh, {name for name, _ in fresh.named_parameters() if name not in copied}


def copy_matching(target, source, left_out=()):
    """Copy every parameter of ``source`` whose name and shape ``target`` has, but ``left_out``; returns their names."""
    values = dict(source.named_parameters())
    copied = []
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            if name in values and name not in left_out and values[name].shape == parameter.shape:
                parameter.copy_(values[name])
                copied.append(name)
    return tuple(copied)


def attention_bias(attention_mask):
    """The mask [B, S] as the boolean [B, 1, 1, S] that attention broadcasts.

    Given [B, S], the model would ask the device whether any position is padding at all, and so wait for it each step.
    """
    return attention_mask[:, None, None, :].bool()


def forward(model, batch, layers=()):
    """Logits [B, C] and, for ``layers``, {index: hidden states [B, S, d]} of an encoded batch."""
    outputs = model(
        input_ids=batch["input_ids"],
        attention_mask=attention_bias(batch["attention_mask"]),
        token_type_ids=batch["token_type_ids"],
        output_hidden_states=bool(layers),
    )
    return outputs.logits, {layer: outputs.hidden_states[layer] for layer in layers}


def model_hash(model):
    """SHA-256 (hex) over a model's parameters, names and values: the same wherever it was loaded from."""
    return tensor_hash(model.state_dict())


def tensor_hash(tensors):
    """SHA-256 (hex) over named tensors, wherever they lie."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def not_finite(model):
    """The name of the first parameter that holds NaN or infinity, or None."""
    return next((name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all()), None)


def parameter_count(model):
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _grouped(names):
    """Parameter names by part of the model: "embeddings, layers 0–2, pooler, classifier"."""
    parts, layers = [], set()
    for name in names:
        pieces = name.removeprefix("bert.").split(".")
        if pieces[:2] == ["encoder", "layer"]:
            layers.add(int(pieces[2]))
        elif pieces[0] not in parts:
            parts.append(pieces[0])
    if layers:
        low, high = min(layers), max(layers)
        without_gap = len(layers) == high - low + 1 > 1
        span = f"{low}–{high}" if without_gap else ", ".join(map(str, sorted(layers)))
        parts.insert(1 if "embeddings" in parts else 0, f"layers {span}")
    return ", ".join(parts)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
