"""Loading a model from a folder, with its classifier in the task's label order."""

import logging
import re
from contextlib import contextmanager

import torch
from transformers.utils import logging as transformers_logging

from fsd.glue.tasks import label_order
from fsd.models.fitting import check_runs, fit, output_layer
from fsd.models.model_files import attention_of, check_weights, model_class, read_config
from fsd.system.errors import InputError, first_line

logger = logging.getLogger(__name__)


@contextmanager
def quiet_loading():
    """Silence the messages and progress bars of transformers' model loader."""
    verbosity, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def load_pretrained(source, config=None):
    """The text classifier of a :class:`ModelSource`, and the names of the parameters missing in its files.

    No pickle is executed: ``pytorch_model.bin`` is read by PyTorch with ``weights_only``.

    Raises:
        InputError: the model cannot be loaded, or has weights that are not finite.
    """
    config = config or read_config(source)
    is_safe, kind = check_weights(source), model_class(config)
    try:
        with quiet_loading():
            model, info = kind.from_pretrained(
                source.folder, config=config, output_loading_info=True, dtype=torch.float32,
                attn_implementation=attention_of(kind), use_safetensors=is_safe, weights_only=True,
            )
    except Exception as error:  # the loader raises many classes, from OSError to safetensors' errors
        raise InputError(f"{source}: cannot load the model: {first_line(error)}; restore its files, or save it again with "
                         "save_pretrained of transformers") from error
    if damaged := not_finite(model):
        raise InputError(f"{source}: {damaged} holds NaN or infinity; the model is damaged, name another")
    missing = {str(name) for name in info["missing_keys"]}
    if any(re.search(r"\.\d+\.", name) for name in missing):
        raise InputError(f"{source}: its weights lack encoder layers that its config names, which is of the kind "
                         f"{config.model_type}; restore its files")
    return model, missing


def load_finetuned(source, task, tokenizer, max_seq_length, config=None):
    """A fine-tuned model of the task, with its classifier in the task's label order.

    Raises:
        InputError: the model cannot be loaded, its classifier is missing or does not fit the task, or its sizes do not fit
            the tokenizer or ``max_seq_length``.
    """
    remedy = "fine-tune one on this task with scripts/finetune_teacher.py"
    config = config or read_config(source)
    if config.num_labels != task.num_logits:
        raise InputError(f"{source}: a model with {config.num_labels} label(s), {task.name} has {task.num_logits}; {remedy}")
    fit(config, tokenizer, max_seq_length, source)
    model, missing = load_pretrained(source, config)
    if missing:
        raise InputError(f"{source}: not fine-tuned, it lacks {', '.join(sorted(missing))}; {remedy}")
    check_runs(model, tokenizer, max_seq_length, source)
    put_labels_in_order(model, task, source)
    return model


def freeze(model):
    """The model in eval mode, without gradients for its parameters."""
    return model.eval().requires_grad_(False)


def put_labels_in_order(model, task, what):
    """Permute the classifier to the task's label order if the names in the model's config have another order."""
    try:
        order = label_order(task, model.config.id2label)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
    if order is not None and order != list(range(len(order))):
        logger.info("%s has its labels in another order than %s: the classifier is permuted to the task's order", what, task.name)
        with torch.no_grad():
            for parameter in output_layer(model)[1].parameters():
                parameter.copy_(parameter[order].clone())
    name_labels(model.config, task)


def name_labels(config, task):
    """Write the task's label names into a model's config, and for transformers' pipelines whether it predicts a score."""
    config.problem_type = "regression" if task.regression else "single_label_classification"
    if not task.regression:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: index for index, label in enumerate(task.labels)}


def not_finite(model):
    """The name of the first parameter that holds NaN or infinity, or None."""
    return next((name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all()), None)
