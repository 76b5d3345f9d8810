"""Build a teacher memory from the arguments."""

import logging
import time
from dataclasses import asdict
from pathlib import Path

from fsd.cli.checks import named_task
from fsd.cli.experiment import data_contents, deciding_settings
from fsd.cli.models import load_teacher
from fsd.glue.dataset import train_subset
from fsd.glue.encoding import encode_split, tokenizer_hash
from fsd.glue.origin import check_origin
from fsd.memory.clustering_plan import Plan
from fsd.memory.streaming_kmeans import cluster
from fsd.memory.teacher_memory import TeacherMemory
from fsd.method.objective import layer_pairs
from fsd.models.kinds import kind_of
from fsd.records.output_folder import trained_on
from fsd.records.public_names import public_name
from fsd.records.resuming import find_resume_point, locked_output_dir, prepare_output_dir, write_record
from fsd.records.tracking import Tracker
from fsd.records.versions import describe_versions, versions
from fsd.system.devices import describe_device, pick_device
from fsd.system.errors import InputError
from fsd.system.hashes import config_hash, model_hash
from fsd.system.launcher import is_main_process
from fsd.system.logs import start_logging
from fsd.system.processes import check_same, process_group, world_size
from fsd.system.signals import Stopped
from fsd.training.teacher_features import TeacherFeatures

logger = logging.getLogger(__name__)

STATE_FILE = "clustering.safetensors"  # the state between passes, removed at the end


def build_memory(args):
    """Cluster the teacher's features as the arguments say and write ``memory.safetensors``."""
    task, device = named_task(args), pick_device(args.no_cuda)
    with start_logging(), process_group(device):
        source, tokenizer, teacher = load_teacher(args, task)
        dataset = encode_split(task, args.data_dir, "train", tokenizer, args.max_seq_length, args.overwrite_cache)
        if args.max_train_samples > 0:
            dataset = train_subset(dataset, args.max_train_samples, args.seed)
        if args.num_centroid > len(dataset):
            raise InputError(f"--num_centroid {args.num_centroid}: only {len(dataset)} examples; lower it")
        check_origin(f"the teacher {source.name}", trained_on(source.folder), dataset.origin)
        contents = {"model_name_or_path": model_hash(teacher), "config_name": config_hash(teacher.config)}
        contents |= data_contents(task, dataset)
        check_same({f"--{name}": digest for name, digest in contents.items()})
        settings = deciding_settings(args, contents)
        with locked_output_dir(args.output_dir):
            kind = f"{task.name}-memory-{args.seed}"
            point = find_resume_point(
                args.output_dir, settings, kind, resume=args.resume, overwrite=args.overwrite_output_dir
            )
            if point is not None:
                facts = {"arguments": vars(args), "processes": world_size(), "versions": versions()}
                facts |= {"task": asdict(task), "trained_on": asdict(dataset.origin)}
                prepare_output_dir(args.output_dir, point, settings, facts, args.overwrite_output_dir)
                tracker = Tracker(args.run_file, point.run)
                cluster_features(args, task, device, tokenizer, teacher, contents, dataset, tracker)
                write_record(args.output_dir, point, settings, facts, finished=True)
            if is_main_process():
                (Path(args.output_dir) / STATE_FILE).unlink(missing_ok=True)


def cluster_features(args, task, device, tokenizer, teacher, contents, dataset, tracker):
    """Run the passes that are still to do, and write the memory."""
    width, depth = teacher.config.hidden_size, teacher.config.num_hidden_layers
    layer = layer_pairs(depth, 1)[0][0]
    plan = Plan(
        len(dataset), args.max_seq_length * width, args.num_centroid, args.memory_num_train_epochs,
        args.feature_cache_gb * 1e9, batch_size=args.per_gpu_train_batch_size,
    )
    logger.info("memory of %s on %s; %s", task.name, describe_device(device), describe_versions())
    logger.info("teacher: %s, hidden states %d of %d layers of width %d; length %d, %s", args.model_name_or_path, layer,
                depth, width, args.max_seq_length, "padding masked" if args.mask_padding else "all positions")
    logger.info("%s", plan.describe())
    encoder = teacher.base_model.to(device)
    if path := kind_of(teacher.config).layers:
        del encoder.get_submodule(path)[max(layer, 1) :]  # hidden_states[layer] needs no later ones; a model needs one
    features = TeacherFeatures(
        encoder, dataset.to(device), args.per_gpu_train_batch_size, args.mask_padding, tracker, args.logging_steps, layer
    )
    began, state_file = time.perf_counter(), Path(args.output_dir) / STATE_FILE
    try:
        clustering = cluster(
            features.batches, plan, seed=args.seed, device=device, tolerance=args.memory_tolerance,
            log=lambda report: report_pass(report, tracker), examples=features.examples, state_file=state_file,
        )
    except Stopped as stopped:
        if stopped.waiting:
            raise
        goes_on = "goes on after the last whole pass" if state_file.exists() else "begins anew"
        raise Stopped(stopped.number, f": the same command with --resume {goes_on}") from None
    if not is_main_process():
        return
    memory = TeacherMemory(
        clustering.centroids.view(args.num_centroid, args.max_seq_length, width), clustering.counts, clustering.assignment,
        task=task.name, teacher=public_name(args.model_name_or_path), teacher_hash=contents["model_name_or_path"],
        tokenizer_hash=tokenizer_hash(tokenizer), data_hash=dataset.origin.rows, file_hash=dataset.origin.file,
        split_of=dataset.origin.split_of, layer=layer, mask_padding=args.mask_padding,
        examples=len(dataset), passes=clustering.passes, inertia=clustering.inertia, seed=args.seed,
    )
    path = memory.save(args.output_dir)
    seconds = time.perf_counter() - began
    shape = {"task": task.name, "K": args.num_centroid, "max_seq_length": args.max_seq_length, "seed": args.seed}
    tracker.finish(shape, {"inertia": clustering.inertia, "seconds": seconds}, clustering.passes)
    logger.info("wrote %s: %d centroids, %d to %d examples each, inertia %.6g, %.1f s", path, args.num_centroid,
                clustering.counts.min(), clustering.counts.max(), clustering.inertia, seconds)


def report_pass(report, tracker):
    """Write a pass's numbers to the log and to TensorBoard."""
    logger.info("%s", report.describe())
    values = {"inertia": report.inertia, "refilled": report.refilled, "seconds": report.seconds}
    if report.shift is not None:
        values["shift"] = report.shift
    tracker.scalars("memory", values, report.number)
