"""The model card: a ``README.md`` in a trained model's folder, as the Hugging Face hub reads it. It holds no absolute path."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

from fsd.models.student import parameter_count
from fsd.records.output_folder import CARD_FILE, CARD_MARK, is_our_card
from fsd.records.public_names import public_argument, public_name
from fsd.records.versions import describe_versions
from fsd.system.files import write_text, written_whole

HUB_METRICS = {"acc": "accuracy", "mcc": "matthews_correlation", "f1": "f1", "pearson": "pearsonr", "spearmanr": "spearmanr"}
NOT_EVALUATED = "The model was not evaluated."
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def write_model_card(output_dir, run, metrics, teacher, source):
    """Write the card of a finished :class:`fsd.training.run.Run`; a ``README.md`` of the user's own stays as it is.

    Args:
        metrics: its dev scores, name → value; empty if it was not evaluated.
        teacher: name or path of its teacher, or None.
        source: name or path of the model that its parameters were copied from; empty if there is none.
    """
    base = next((name for name in (source, teacher) if name and is_hub_name(name)), None)
    text = front_matter(base, run.task, metrics) + body(run, metrics, teacher, source)
    path = Path(output_dir) / CARD_FILE
    if not os.path.lexists(path) or is_our_card(path):
        write_text(path, text.encode(errors="replace").decode())  # a path need not be UTF-8


def add_scores_to_card(folder, metrics):
    """Write the dev scores of a model that is evaluated later into its card, if the card is ours and has none."""
    path = Path(folder) / CARD_FILE
    if is_our_card(path) and NOT_EVALUATED in (text := path.read_bytes().decode(errors="surrogateescape")):
        text = text.replace(NOT_EVALUATED, "\n".join(score_lines(metrics)))
        text = text.replace("\n---\n", "\n".join(["", *metric_lines(metrics), "---", ""]), 1)
        with written_whole(path) as temporary:  # what somebody has added need not be UTF-8
            temporary.write_bytes(text.encode(errors="surrogateescape"))


def metric_lines(metrics):
    """The front matter's list of metrics, as the hub names them."""
    names = dict.fromkeys(HUB_METRICS[key] for key in (name.split("/")[-1] for name in metrics) if key in HUB_METRICS)
    return ["metrics:", *(f"- {name}" for name in names)] if names else []


def score_lines(metrics):
    """The scores as a table."""
    return ["| metric | value |", "|---|---|", *(f"| {name} | {value:.4f} |" for name, value in metrics.items())]


def front_matter(base, task, metrics):
    """The YAML block that the hub reads. Of the data of a task of one's own, it tells nothing."""
    lines = ["---", *["language: en"] * task.is_official, "library_name: transformers", "pipeline_tag: text-classification"]
    lines += [f"base_model: {json.dumps(base)}"] if base else []
    lines += ["datasets:", "- glue"] if task.is_official else []
    lines += metric_lines(metrics)
    return "\n".join([*lines, "---", "", ""])


def body(run, metrics, teacher, source):
    """The card's text."""
    config, settings = run.student.config, run.settings
    kind = type(run.student).__name__.removesuffix("ForSequenceClassification")
    shape = f"{config.num_hidden_layers} layers of width {config.hidden_size}, {parameter_count(run.student):,} parameters"
    lines = [
        f"# {kind} for {'GLUE ' * run.task.is_official}{run.task.name}, trained with {run.objective.method}", "", CARD_MARK, "",
        f"- method: {run.objective.method}", f"- objective: {run.objective.formula()}", f"- model: {shape}",
        f"- teacher: {code(public_name(teacher))}" if teacher else "- teacher: none",
        f"- parameters copied from: {code(public_name(source))}" if source else "- parameters: newly initialised",
        f"- training: {run.steps} steps on {len(run.train_set)} examples of {run.task.name}, seed {settings.seed}",
        f"- training data: SHA-256 {run.train_set.origin.rows}", f"- versions: {describe_versions()}", "",
        "## Scores on dev", "", *(score_lines(metrics) if metrics else [NOT_EVALUATED]),
        "", "## Command", "", "```bash", public_command(sys.argv), "```", "",
    ]
    return "\n".join(lines)


def is_hub_name(name):
    """Whether a name is one on the hub, and not a path."""
    return bool(HUB_NAME.fullmatch(name)) and not os.path.exists(name)


def public_command(arguments):
    """The command on one line; of absolute paths only the last part."""
    return " ".join(shlex.join(["python", *map(public_argument, arguments)]).split("\n"))


def code(text):
    """Text as code in Markdown."""
    return f"`{' '.join(text.replace('`', ' ').split())}`"
