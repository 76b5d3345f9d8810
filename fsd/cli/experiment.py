"""Shared steps of distillation and fine-tuning: load data, train with records, evaluate a saved model."""

import logging
import time
from dataclasses import fields
from pathlib import Path

from fsd.cli.checks import named_model
from fsd.cli.description import describe, facts_of, hyperparameters, result_row
from fsd.cli.models import pretrained_models
from fsd.cli.settings import deciding_flags
from fsd.glue.dataset import train_subset
from fsd.glue.encoding import encode_split
from fsd.glue.files import find_task_folder, has_split, split_path
from fsd.glue.origin import DataOrigin, check_not_seen, split_source
from fsd.glue.tasks import METRIC_NAMES
from fsd.models.hub import find_model
from fsd.models.loading import load_finetuned
from fsd.models.model_files import read_config
from fsd.models.tokenizer import load_tokenizer
from fsd.records.checkpoints import keep_newest, save_model
from fsd.records.model_card import add_scores_to_card, write_model_card
from fsd.records.output_folder import EVAL_RESULTS, PREDICTIONS, RECORD_FILE, checkpoints, trained_on
from fsd.records.publishing import push_to_hub
from fsd.records.results import add_scores, append_result
from fsd.records.resuming import CONTENT, find_resume_point, locked_output_dir, prepare_output_dir, write_record
from fsd.records.tracking import Tracker
from fsd.system.files import read_json, write_text
from fsd.system.hashes import file_hash, json_hash
from fsd.system.launcher import is_main_process
from fsd.system.processes import check_same, main_process_first, world_size
from fsd.training.evaluation import evaluate, format_metrics, is_at_chance, predict_test_sets
from fsd.training.loop import train
from fsd.training.memory_start import start_from_clusters
from fsd.training.run import TrainingSettings

logger = logging.getLogger(__name__)

def training_settings(args):
    """The :class:`TrainingSettings` of the flags of the same names."""
    names = [field.name for field in fields(TrainingSettings)]
    return TrainingSettings(**{name: getattr(args, name) for name in names if hasattr(args, name)})


def deciding_settings(args, contents):
    """Flag → value for every flag that affects training; a run can be resumed only with the same values.

    Args:
        contents: flag without its dashes → hash of the content of its file.
    """
    settings = deciding_flags(args) | {name: CONTENT + digest for name, digest in contents.items()}
    return {f"--{name}": value for name, value in (settings | {"nproc_per_node": world_size()}).items()}


def data_contents(task, train_set):
    """Flag without its dashes → hash of the content of its file, for the task and its training data."""
    own = {} if task.is_official else {"task_file": json_hash(task.definition)}
    return own | {"data_dir": train_set.fingerprint}


def load_data(args, task, tokenizer, device):
    """(train set or None, dev sets, test sets) for the arguments, encoded and on the device."""

    def load(split):
        return encode_split(task, args.data_dir, split, tokenizer, args.max_seq_length, args.overwrite_cache)

    train_set = None
    if args.do_train:
        train_set = load("train")
        if args.max_train_samples > 0:
            train_set = train_subset(train_set, args.max_train_samples, args.seed)
        for source in pretrained_models(args):
            check_not_seen(str(source), trained_on(source.folder), train_set.origin)
        train_set = train_set.to(device)
    dev_sets = [load(split).to(device) for split in task.dev_splits] if args.do_eval or args.do_train else []
    test_sets = []
    for split in task.test_splits if args.do_predict else ():
        if split == "ax" and not has_split(task, args.data_dir, split):
            logger.warning("no AX diagnostic set beside MNLI: AX.tsv is not written; scripts/download_glue.py fetches it")
            continue
        test_sets.append(load(split).to(device))
    return train_set, dev_sets, test_sets


def train_and_report(args, run, start, test_sets, contents, checkpoint=None):
    """Train, from the start or from a checkpoint of the same run, and write all results.

    Args:
        start: the :class:`fsd.models.student.Start` of ``run.student``.
        contents: flag without its dashes → hash of the content of its file.
        checkpoint: the checkpoint that the command line names.
    """
    check_same({f"--{name}": digest for name, digest in contents.items()})
    settings = deciding_settings(args, contents)
    with locked_output_dir(args.output_dir):
        beta = f"-beta{run.objective.beta:g}" if run.objective.beta else ""
        kind = f"{run.task.name}-{run.objective.method}{beta}-lr{args.learning_rate:g}-{args.seed}"
        point = find_resume_point(
            args.output_dir, settings, kind, resume=args.resume, overwrite=args.overwrite_output_dir, checkpoint=checkpoint
        )
        if point is None:
            logger.info("to evaluate it again, leave out --do_train")
            push(args, run.task)
            return
        if point.checkpoint is None and run.objective.needs_teacher and not args.skip_teacher_eval:
            score_teacher(run)
        facts = facts_of(args, run)
        prepare_output_dir(args.output_dir, point, settings, facts, args.overwrite_output_dir)
        tracker = Tracker(args.run_file, point.run, point.step)
        if is_main_process():
            keep_newest(args.output_dir, args.save_total_limit)  # a run killed after saving may have one too many
            describe(args, run, start, point, tracker.folder)
        began = time.perf_counter()
        if run.teacher_cache is not None:
            with main_process_first():
                run.teacher_cache.fill()
        if run.clusters is not None and point.checkpoint is None:
            start_from_clusters(run)
        seconds = time.perf_counter() - began + train(run, tracker, point.checkpoint)
        if is_main_process():
            save_model(args.output_dir, run.student, run.tokenizer, run.student_memory)
        metrics = report(args, run, test_sets, tracker)
        if is_main_process():
            teacher = args.model_name_or_path if run.objective.needs_teacher else None
            write_model_card(args.output_dir, run, metrics, teacher, start.source)
            row = result_row(args, run, start, metrics, seconds, contents["model_name_or_path"])
            append_result(args.results_file, row | {"run": point.run})
        write_record(args.output_dir, point, settings, facts, finished=True)
        logger.info("%s on %s, %d steps in %.1f s: %s", run.objective.method, run.task.name, run.steps, seconds,
                    format_metrics(metrics) or "not evaluated (no --do_eval)")
        push(args, run.task)


def push(args, task):
    """With ``--push_to_hub``, upload the finished run's folder."""
    if args.push_to_hub and is_main_process():
        push_to_hub(args.push_to_hub, args.output_dir, task)


def score_teacher(run):
    """Log the teacher's dev score, and warn if it is no better than chance."""
    metrics = evaluate(run.teacher, run.task, run.dev_sets, run.settings.per_gpu_eval_batch_size, "scoring the teacher")
    logger.info("teacher on dev: %s", format_metrics(metrics))
    if is_at_chance(run.task, metrics, run.dev_sets[0]):
        logger.warning(
            "the teacher scores at chance on dev: %s; was it fine-tuned on %s, with labels in this order?",
            format_metrics(metrics), run.task.name,
        )


def report(args, run, test_sets, tracker):
    """Evaluate and predict with the trained student as the arguments say; returns its dev metrics."""
    metrics = {}
    if args.do_eval or args.evaluate_during_training:
        metrics = evaluate(run.student, run.task, run.dev_sets, args.per_gpu_eval_batch_size)
        if args.evaluate_during_training and run.steps > run.steps_per_epoch:  # else it is no curve
            tracker.scalars("dev", metrics, run.steps)
        write_eval_results(args.output_dir, metrics)
        evaluate_checkpoints(args, run.task, run.tokenizer, run.dev_sets, run.device)
    predict(args, run.student, run.task, test_sets)
    tracker.finish(hyperparameters(args, run), metrics, run.steps, METRIC_NAMES)
    return metrics


def evaluate_saved(args, task, device, flag):
    """Without training: evaluate and predict with the model of ``--flag``, by default the one in the output folder."""
    source = find_model(getattr(args, flag) or args.output_dir, f"--{flag}", args.cache_dir)
    tokenizer = load_tokenizer(named_model(args, "tokenizer_name") or source, args.do_lower_case)
    config = named_model(args, "config_name") if flag == "model_name_or_path" else None  # otherwise it is the teacher's
    model = load_finetuned(source, task, tokenizer, args.max_seq_length, config and read_config(config))
    if args.do_eval:
        check_unseen(args, task, source)
    _, dev_sets, test_sets = load_data(args, task, tokenizer, device)
    model.to(device).eval()
    if args.do_eval:
        metrics = evaluate(model, task, dev_sets, args.per_gpu_eval_batch_size)
        write_eval_results(args.output_dir, metrics)
        evaluate_checkpoints(args, task, tokenizer, dev_sets, device)
        logger.info("%s on %s: %s", source.name, task.name, format_metrics(metrics))
        fill_results_row(args, task, source.folder, metrics)
    predict(args, model, task, test_sets)


def check_unseen(args, task, source):
    """Refuse to score a model on rows that its own training data hold: those that ``scripts/hold_out.py`` held out."""
    if split_of := split_source(find_task_folder(task, args.data_dir)):
        train_file = split_path(task, args.data_dir, "train")
        file = file_hash(train_file) if train_file.is_file() else ""
        check_not_seen(str(source), trained_on(source.folder), DataOrigin(file=file, split_of=split_of))


def fill_results_row(args, task, folder, metrics):
    """Write the scores of a finished run's model into the run's results row and its card, if the row has none."""
    path = folder / RECORD_FILE
    record = read_json(path) if is_main_process() and path.is_file() else None
    if isinstance(record, dict) and record.get("finished") is True:  # a checkpoint's says that its run is on its way
        known = {"run": record.get("run"), "task": task.name, "max_seq_length": str(args.max_seq_length)}
        if add_scores(args.results_file, known, metrics):
            add_scores_to_card(folder, metrics)
            logger.info("wrote the scores into the run's row in %s", args.results_file)


def predict(args, model, task, test_sets):
    """Write the leaderboard files."""
    for path in predict_test_sets(model, task, test_sets, args.per_gpu_eval_batch_size, Path(args.output_dir) / PREDICTIONS):
        logger.info("wrote %s", path)


def write_eval_results(output_dir, metrics):
    """Write sorted ``key = value`` lines, in the main process only."""
    if is_main_process():
        text = "".join(f"{key} = {value}\n" for key, value in sorted(metrics.items()))
        write_text(Path(output_dir) / EVAL_RESULTS, text)


def evaluate_checkpoints(args, task, tokenizer, dev_sets, device):
    """With ``--eval_all_checkpoints``, evaluate every checkpoint-N of the output folder."""
    for _, path in checkpoints(args.output_dir) if args.eval_all_checkpoints else ():
        model = load_finetuned(find_model(path, "--output_dir"), task, tokenizer, args.max_seq_length)
        metrics = evaluate(model.to(device).eval(), task, dev_sets, args.per_gpu_eval_batch_size)
        write_eval_results(path, metrics)
        logger.info("%s: %s", path.name, format_metrics(metrics))
