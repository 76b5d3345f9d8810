"""Analyse what a student took over from its teacher, from the arguments."""

import csv
import io
import logging
from pathlib import Path

import numpy as np

from fsd.analysis.cka_map import heat_map
from fsd.analysis.curves import read_curves
from fsd.analysis.features import mini_batches
from fsd.analysis.restoration import restoration
from fsd.analysis.structures import layers_and_relations
from fsd.cli.checks import csv_files, is_map, named_model, named_task
from fsd.cli.models import load_teacher
from fsd.glue.encoding import encode_split
from fsd.glue.files import has_split
from fsd.glue.tasks import find_task
from fsd.models.loading import freeze, load_finetuned
from fsd.models.tokenizer import check_same_vocabulary
from fsd.records.output_folder import RECORD_FILE
from fsd.records.resuming import CONTENT
from fsd.system.devices import describe_device, pick_device
from fsd.system.errors import InputError
from fsd.system.files import read_json, write_json, write_text
from fsd.system.hashes import model_hash
from fsd.system.logs import start_logging
from fsd.training.evaluation import decisions, predict_logits

logger = logging.getLogger(__name__)


def analyse(args):
    """Compare the two models as the arguments say, and write the analysis."""
    task, device = named_task(args), pick_device(args.no_cuda)
    with start_logging():
        teacher, student, tokenizer, facts = load_pair(args, task)
        curves = None
        if args.curves and facts["method"] != "teacher":
            own = Path(args.curves) / (facts["run"] or "")
            curves = read_curves(own if own.is_dir() else args.curves)
        split = args.split or ("test" if has_split(task, args.data_dir, "test") else "dev")
        datasets = {
            name: encode_split(task, args.data_dir, name, tokenizer, args.max_seq_length, args.overwrite_cache).to(device)
            for name in dict.fromkeys([split, *task.dev_splits])
        }
        for name in (split, "dev"):  # too few examples are told before a model runs
            mini_batches(datasets[name], args.cka_batch_size)
        logger.info("%s on %s, on %s", facts["method"], task.name, describe_device(device))
        teacher, student = teacher.to(device), student.to(device)
        compared = (args.cka_batch_size, args.max_batches, args.mask_padding)
        cka = heat_map(teacher, student, datasets[split], *compared)
        layers, relations = layers_and_relations(
            teacher, student, datasets["dev"], args.cka_batch_size, args.mask_padding
        )
        rate = None if task.regression else restoration(task, *(
            np.concatenate([
                decisions(task, predict_logits(model, datasets[name], args.cka_batch_size)) for name in task.dev_splits
            ])
            for model in (teacher, student)
        ))
        for path in filter(is_map, csv_files(args.output_file)):  # of the analysis that this one replaces
            path.unlink()
        write_json(args.output_file, facts | {
            "max_seq_length": args.max_seq_length, "mask_padding": args.mask_padding, "restoration": rate,
            "cka": {"split": split, "batch_size": args.cka_batch_size, **cka}, "layers": layers,
            "relations": relations, "curves": curves,
        })
        maps = (cka["map"], layers["map"], layers["chance_map"], layers["minibatch_map"])
        for path, values in zip(csv_files(args.output_file), maps, strict=True):
            if args.csv and values:  # of fewer than four examples a batch there is no minibatch CKA
                write_text(path, map_as_csv(values))
        logger.info(
            "wrote %s: agreement %s, CKA %.4f (by chance %.4f, shuffled %.4f), %s",
            args.output_file, f"{rate['agreement']:.4f}" if rate else "–",
            cka["mean_diagonal"], cka["chance_mean_diagonal"], cka["shuffled_mean_diagonal"],
            ", ".join(f"{name} {value:.4g}" for name, value in relations.items()),
        )


def load_pair(args, task):
    """(teacher, student, tokenizer, facts of the student's run), after checking that the two belong together."""
    teacher_source, student_source = named_model(args, "model_name_or_path"), named_model(args, "student_model_name_or_path")
    run = run_of(student_source)
    for source, known in ((teacher_source, run_of(teacher_source)), (student_source, run)):
        if known and known["task"] != task.name:
            raise InputError(f"{source}: it was trained on {known['task']}, not on {task.name}; name a model of {task.name}")
    _, tokenizer, teacher = load_teacher(args, task)
    teacher_hash = model_hash(teacher)
    if student_source.folder.samefile(teacher_source.folder):
        student = teacher
    else:
        student = load_student(student_source, run, task, tokenizer, args.max_seq_length, teacher_hash)
    facts = {name: run.get(name) for name in ("seed", "batch_size")}
    facts |= {"task": task.name, "teacher_hash": teacher_hash, "run": run.get("run")}
    is_teacher = student is teacher or model_hash(student) == teacher_hash
    facts["method"] = "teacher" if is_teacher else run.get("method", "student")
    return teacher, student, tokenizer, facts


def load_student(source, run, task, tokenizer, max_seq_length, teacher_hash):
    """The student of a :class:`fsd.models.hub.ModelSource`; InputError if it has another teacher or another vocabulary."""
    if run.get("teacher_hash", teacher_hash) != teacher_hash:
        raise InputError(f"{source}: it was distilled from another teacher than --model_name_or_path; name that teacher")
    check_same_vocabulary(source, tokenizer)
    return freeze(load_finetuned(source, task, tokenizer, max_seq_length))


def run_of(source):
    """What the record in a model's folder tells of the run that made it; an empty dictionary if there is no record.

    Returns:
        {"task", "method", "seed", "batch_size", "run"}, and "teacher_hash" if it was distilled.

    Raises:
        InputError: the record is damaged.
    """
    path = source.folder / RECORD_FILE
    if not path.is_file():
        return {}
    record = read_json(path)
    try:
        arguments = record["arguments"]
        run = {
            "task": task_of_record(record), "method": str(record["method"]), "seed": int(arguments["seed"]),
            "batch_size": int(arguments["per_gpu_train_batch_size"]) * int(record["processes"]), "run": str(record["run"]),
        }
        if run["method"] != "fine-tuning":
            run["teacher_hash"] = record["settings"]["--model_name_or_path"].removeprefix(CONTENT)
    except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
        raise InputError(f"{path}: not the record of a training run; restore it, or move it away") from error
    return run


def task_of_record(record):
    """The name of a run's task; records of older versions have it among the arguments only."""
    return str(record["task"]["name"]) if "task" in record else find_task(record["arguments"]["task_name"]).name


def map_as_csv(values):
    """A map as CSV: a row for each mini-batch or layer of the teacher, a column for each of the student."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["teacher", *(f"student_{at}" for at in range(len(values[0])))])
    writer.writerows([at, *row] for at, row in enumerate(values))
    return text.getvalue()
