"""Building a model before training: the student, or a pretrained model with a new classifier."""

import copy
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from fsd.models.fitting import check_runs, fit, output_layer
from fsd.models.loading import load_pretrained, name_labels, put_labels_in_order, quiet_loading
from fsd.models.model_files import attention_of, model_class, read_config
from fsd.models.tokenizer import check_same_vocabulary
from fsd.system.errors import InputError, first_line
from fsd.system.random_streams import stream_seed


@dataclass(frozen=True)
class Start:
    """A model before training: ``source`` names where it was copied from, ``fresh`` the newly initialised parameters."""

    model: PreTrainedModel
    source: str
    fresh: frozenset

    def describe(self):
        """One line: which parameters were copied and which are newly initialised, with their numbers of values."""
        sizes = {name: parameter.numel() for name, parameter in self.model.named_parameters()}

        def summary(names):
            return f"{_grouped(names, self.model.base_model_prefix) or 'nothing'} ({sum(sizes[name] for name in names):,} values)"

        fresh = f"newly initialised: {summary([name for name in sizes if name in self.fresh])}"
        copied = [name for name in sizes if name not in self.fresh]
        return f"copied from {self.source}: {summary(copied)}; {fresh}" if copied else fresh


def new_model(config, seed):
    """A text classifier with its kind's random initialisation, from the seed's stream "student"."""
    kind = model_class(config)
    with torch.random.fork_rng(devices=[]), quiet_loading():
        torch.manual_seed(stream_seed(seed, "student"))
        try:
            return kind._from_config(config, attn_implementation=attention_of(kind))
        except Exception as error:  # anything may go wrong in a kind that nobody has tried here
            what = f"these sizes do not give a valid model of the kind {config.model_type}"
            raise InputError(f"{what}: {first_line(error)}; give others") from error


def build_for_finetuning(source, task, tokenizer, max_seq_length, seed, config=None):
    """The :class:`Start` of fine-tuning: the pretrained model of ``source`` with a new classifier for the task."""
    config = config or read_config(source)
    fit(config, tokenizer, max_seq_length, source)
    pretrained, missing = load_pretrained(source, config)
    check_runs(pretrained, tokenizer, max_seq_length, source)
    return with_fresh_parts(pretrained, source, task, seed, missing)


def continue_student(source, task, tokenizer, max_seq_length, seed):
    """The :class:`Start` of a student that is the model of ``source``."""
    check_same_vocabulary(source, tokenizer)
    config = read_config(source)
    fit(config, tokenizer, max_seq_length, source)
    student, missing = load_pretrained(source, config)
    check_runs(student, tokenizer, max_seq_length, source)
    start = Start(student, source.name, frozenset())
    if missing or student.config.num_labels != task.num_logits:
        start = with_fresh_parts(student, source, task, seed, missing)
    put_labels_in_order(start.model, task, source)
    return start


def build_student(teacher, teacher_source, task, tokenizer, max_seq_length, seed, config_source=None, copy_source=None):
    """The :class:`Start` of a student with half the teacher's layers, or with the config of ``config_source``.

    Args:
        copy_source: the :class:`ModelSource` whose matching parameters are copied into the student (may be
            ``teacher_source``); None for a random start.
    """
    config = student_config(teacher.config, task, config_source)
    fit(config, tokenizer, max_seq_length, config_source or "the student")
    student = new_model(config, seed)
    check_runs(student, tokenizer, max_seq_length, config_source or "the student")
    names = frozenset(name for name, _ in student.named_parameters())
    if copy_source is None:
        return Start(student, "", names)
    source, missing = teacher, set()
    if copy_source is not teacher_source:
        check_same_vocabulary(copy_source, tokenizer)
        source, missing = load_pretrained(copy_source)
        if source.config.num_labels == task.num_logits and f"{output_layer(source)[0]}.weight" not in missing:
            put_labels_in_order(source, task, copy_source)
    theirs, own = source.config.model_type, config.model_type
    if theirs != own:
        raise InputError(f"--copy_teacher: {copy_source.name} is of the kind {theirs} and the student of the kind {own}; leave "
                         f"the flag out, or name a model of the kind {own} with --model_name_or_path_for_copy")
    copied = copy_matching(student, source, missing)
    if not copied:
        raise InputError(f"--copy_teacher: no parameter of {copy_source.name} matches the student's in name and shape; "
                         "leave the flag out, or name another model with --model_name_or_path_for_copy")
    return Start(student, copy_source.name, names - copied)


def student_config(teacher_config, task, config_source=None):
    """The student's config for this task: the teacher's with half its layers, or the one in ``config_source``."""
    if config_source:
        config = read_config(config_source)
    else:
        config = copy.deepcopy(teacher_config)
        config.num_hidden_layers = teacher_config.num_hidden_layers // 2
        for name in ("layer_types", "attention_window"):
            if isinstance(getattr(config, name, None), list | tuple):  # one entry a layer
                setattr(config, name, getattr(config, name)[: config.num_hidden_layers])
    if config.num_hidden_layers < 1:
        raise InputError("the student has no layers: give its shape with --student_config_name")
    config.num_labels = task.num_logits
    name_labels(config, task)
    return config


def with_fresh_parts(model, source, task, seed, missing):
    """The :class:`Start` of a model whose ``missing`` parameters and output layer are newly initialised from the seed."""
    config = copy.deepcopy(model.config)
    config.num_labels = task.num_logits
    name_labels(config, task)
    fresh = new_model(config, seed)
    name, layer = output_layer(fresh)
    copied = copy_matching(fresh, model, {*missing, *(f"{name}.{part}" for part, _ in layer.named_parameters())})
    return Start(fresh, source.name, frozenset(name for name, _ in fresh.named_parameters()) - copied)


def copy_matching(target, source, left_out=()):
    """Copy each parameter of ``source`` whose name and shape match ``target``'s, except ``left_out``; returns their names."""
    values = dict(source.named_parameters())
    copied = set()
    with torch.no_grad():
        for name, parameter in target.named_parameters():
            if name in values and name not in left_out and values[name].shape == parameter.shape:
                parameter.copy_(values[name])
                copied.add(name)
    return copied


def parameter_count(model):
    """The number of values in all parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _grouped(names, prefix):
    """Parameter names by part of the model, without the base model's prefix: "embeddings, layers 0–2, pooler, classifier"."""
    parts, layers = [], set()
    for name in names:
        pieces = name.removeprefix(f"{prefix}.").split(".")
        if numbers := [piece for piece in pieces if piece.isdigit()]:
            layers.add(int(numbers[0]))
        elif pieces[0] not in parts:
            parts.append(pieces[0])
    if layers:
        low, high = min(layers), max(layers)
        without_gap = len(layers) == high - low + 1 > 1
        span = f"{low}–{high}" if without_gap else ", ".join(map(str, sorted(layers)))
        parts.insert(1 if "embeddings" in parts else 0, f"layers {span}")
    return ", ".join(parts)
