"""Descriptions of a run for the log, its record and the results file."""

import json
import logging
import sys
import time
from dataclasses import asdict

from fsd.cli.checks import named_model
from fsd.cli.settings import identifying_flags
from fsd.glue.metrics import main_metric
from fsd.models.student import parameter_count
from fsd.records.output_folder import trained_on
from fsd.records.results import model_for_row, path_for_row
from fsd.records.versions import commit, describe_versions, versions
from fsd.system.devices import describe_device, slowdown_on_cpu
from fsd.system.processes import world_size

logger = logging.getLogger(__name__)


def facts_of(args, run):
    """Facts for readers of ``training_args.json``: the flags, the task, the objective, the training data's hash, the versions."""
    return {
        "command": sys.argv, "arguments": vars(args), "task": asdict(run.task), "method": run.objective.method,
        "objective": asdict(run.objective), "weights": run.objective.weights, "steps": run.steps,
        "processes": world_size(), "train_examples": len(run.train_set),
        "trained_on": asdict(run.train_set.origin), "versions": versions(),
    }


def describe(args, run, start, point, tensorboard_folder):
    """Log everything that affects the run's result."""
    objective, processes = run.objective, world_size()
    subset = f" (a subset, --max_train_samples {args.max_train_samples})" if args.max_train_samples > 0 else ""
    modes = (
        ("padding masked", args.mask_padding), ("batches of similar length", args.group_by_length), ("bf16", args.bf16),
        ("fp16", args.fp16), ("compiled, which takes minutes at the first steps", args.compile),
        ("CUDA graphs", args.cuda_graphs),
        (f"{processes} processes of {args.per_gpu_train_batch_size} examples each", processes > 1),
    )
    logger.info("%s on %s; %s", objective.method, describe_device(run.device), describe_versions())
    logger.info(
        "%s: %d training examples%s, %d steps of %d × %d, length %d, seed %d%s", run.task.name, len(run.train_set), subset,
        run.steps, args.gradient_accumulation_steps, run.batch_size, args.max_seq_length, args.seed,
        "".join(f", {words}" for words, is_on in modes if is_on),
    )
    student = "student" if run.teacher is not None else "model"
    for role, model in (("teacher", run.teacher), (student, run.student)):
        if model is not None:
            shape = f"{model.config.model_type}, {model.config.num_hidden_layers} layers of width {model.config.hidden_size}"
            logger.info("%s: %s, %s parameters", role, shape, f"{parameter_count(model):,}")
    logger.info("%s's start: %s", student, start.describe())
    if times := slowdown_on_cpu(run.device, run.settings.precision):
        logger.warning("--%s takes about %.0f times as long as float32 on this CPU; leave it out",
                       "bf16" if args.bf16 else "fp16", times)
    if point.checkpoint is not None:
        logger.info("goes on from %s", point.checkpoint)
    logger.info("objective: %s", objective.formula())
    if objective.needs_memory:
        logger.info("student memory: %d centroids, start %s, learning rate %g", len(run.student_memory.centroids),
                    args.student_memory_init, args.memory_learning_rate or args.learning_rate)
    if objective.compared_pairs:
        pairs = ", ".join(f"({teacher}, {student})" for teacher, student in objective.compared_pairs)
        logger.info("hidden states compared (teacher, student): %s", pairs)
    if run.teacher_cache is not None:
        logger.info("cache: %s", run.teacher_cache.describe())
    logger.info("TensorBoard: %s", tensorboard_folder)


def result_row(args, run, start, metrics, seconds, source_hash):
    """A finished run's row in the results file. Cells of settings that played no part are empty.

    ``source_hash`` is the hash of the model that ``--model_name_or_path`` names.
    """
    objective, student = run.objective, run.student.config

    def model(path):
        return model_for_row(path, args.results_file)

    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"), "task": run.task.name, "method": objective.method,
        "role": "student" if hasattr(args, "student_model_name_or_path") else "teacher",
        "output_dir": path_for_row(args.output_dir, args.results_file), "seed": args.seed, "mask_padding": args.mask_padding,
        "copied_from": model(start.source), "student_model_type": student.model_type,
        "student_layers": student.num_hidden_layers,
        "student_hidden_size": student.hidden_size, "parameters": parameter_count(run.student),
        "train_samples": len(run.train_set), "train_data": run.train_set.origin.rows, "max_seq_length": args.max_seq_length,
        "batch_size": run.batch_size, "accumulation": args.gradient_accumulation_steps,
        "epochs": round(run.steps / run.steps_per_epoch, 4), "steps": run.steps, "learning_rate": args.learning_rate,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "float32", "group_by_length": args.group_by_length,
        "compile": args.compile, "cuda_graphs": args.cuda_graphs, **settings_in_use(args, objective),
        "main_metric": main_metric(run.task), **metrics,
        "seconds": round(seconds, 1), "commit": commit(), "flags": json.dumps(identifying_flags(args), sort_keys=True),
    } | ({"teacher": model(args.model_name_or_path), "teacher_hash": source_hash,
          "teacher_data": trained_on(named_model(args, "model_name_or_path").folder).rows,
          "cache_teacher": run.teacher_cache is not None} if objective.needs_teacher else {}) | (
        {"memory": model(args.teacher_memory_path)} if objective.needs_memory else {})


def hyperparameters(args, run):
    """Name → value of what a run is compared by, the same names for every method and task; 0 for what plays no part."""
    weights = dict.fromkeys(
        ("alpha", "temperature", "beta", "gamma_i", "gamma_l", "gamma_g", "gamma_m", "rkd_distance", "rkd_angle"), 0.0
    )
    used = {name: value for name, value in settings_in_use(args, run.objective).items() if name in weights}
    names = ("mask_padding", "max_seq_length", "learning_rate", "num_train_epochs", "warmup_steps", "weight_decay", "seed")
    return {
        "task": run.task.name, "method": run.objective.method, **weights, **used, "batch_size": run.batch_size,
        "steps": run.steps, **{name: getattr(args, name) for name in names},
    }


def settings_in_use(args, objective):
    """Column → value, for the settings of the objective that some loss of it reads."""
    used = set(objective.weights)
    gammas = {"gamma_i": objective.gamma_i, "gamma_l": objective.gamma_l, "gamma_g": objective.gamma_g}
    values = {name: gamma for name, gamma in gammas.items() if objective.beta * gamma != 0}
    if values or used & {"pkd", "attention"}:
        values["beta"] = objective.beta
    values |= {name: getattr(objective, name) for name in ("rkd_distance", "rkd_angle") if name in used}
    if "intra" in used:
        values["released_intra"] = objective.released_intra
    if used & {"intra", "local_inter", "memory_cka"}:
        values |= {"debiased": objective.debiased, "similarity": objective.similarity}
    if objective.needs_memory:
        values |= {"gamma_m": objective.gamma_m, "student_memory_init": args.student_memory_init}
        values["memory_learning_rate"] = args.memory_learning_rate or args.learning_rate
    if "global_distance" in used:
        values["normalize_distances"] = objective.normalize_distances
    if used & {"intra", "local_inter"}:
        values["do_layerwise"] = args.do_layerwise
    if "dark_knowledge" in used:
        values["temperature"] = objective.temperature
    if objective.needs_teacher:
        values["alpha"] = objective.alpha
    return values
