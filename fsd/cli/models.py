"""The models that the arguments name."""

from fsd.cli.checks import named_model, starts_fresh
from fsd.models.loading import freeze, load_finetuned
from fsd.models.model_files import read_config
from fsd.models.tokenizer import load_tokenizer


def named_encoder(args):
    """(source, tokenizer, configuration or None) of ``--model_name_or_path`` and the flags that go with it."""
    source, config_source = named_model(args, "model_name_or_path"), named_model(args, "config_name")
    tokenizer = load_tokenizer(named_model(args, "tokenizer_name") or source, args.do_lower_case)
    return source, tokenizer, config_source and read_config(config_source)


def load_teacher(args, task):
    """(source, tokenizer, frozen model) of the fine-tuned teacher that ``--model_name_or_path`` names."""
    source, tokenizer, config = named_encoder(args)
    return source, tokenizer, freeze(load_finetuned(source, task, tokenizer, args.max_seq_length, config))


def pretrained_models(args):
    """The models whose parameters the teacher or the student has: the teacher, the model to copy from, the student's start."""
    names = ["model_name_or_path", "model_name_or_path_for_copy"]
    names += [] if starts_fresh(args) else ["student_model_name_or_path"]
    return [source for name in names if (source := named_model(args, name))]
