"""Building the teacher memory: the teacher's features over the training set, and their clustering."""

import time
from pathlib import Path

import torch
from torch.nn import functional as F

from fsd import checkpoints, models, tracking
from fsd.encoding import encode_split, tokenizer_hash, train_subset
from fsd.files import check_folder, write_json
from fsd.glue import find_task
from fsd.hardware import describe_device, pick_device
from fsd.kmeans import Plan, cluster
from fsd.losses import zero_padding
from fsd.memory import TeacherMemory
from fsd.objective import layer_pairs
from fsd.tracking import logger


def build_memory(args):
    """Cluster the teacher's features as the arguments say and write ``memory.safetensors``."""
    with tracking.start_logging():
        task, device = find_task(args.task_name), pick_device(args.no_cuda)
        names = ("model_name_or_path", "tokenizer_name", "config_name", "data_dir")
        checkpoints.check_output_dir(args, {f"--{name}": getattr(args, name) for name in names})
        check_folder(args.run_file, f"--run_file {args.run_file}")
        tokenizer = models.load_tokenizer(args)
        teacher = models.load_teacher(args, task, tokenizer)
        teacher_hash, depth = models.model_hash(teacher), teacher.config.num_hidden_layers
        dataset = encode_split(task, args.data_dir, "train", tokenizer, args.max_seq_length, args.overwrite_cache)
        if args.max_train_samples > 0:
            dataset = train_subset(dataset, args.max_train_samples, args.seed)
        width, layer = teacher.config.hidden_size, layer_pairs(depth, 1)[0][0]
        plan = Plan(
            len(dataset), args.max_seq_length * width, args.num_centroid, args.memory_num_train_epochs,
            args.feature_cache_gb * 1e9,
        )
        tracker = tracking.Tracker(args.run_file, f"{task.name}-memory-{args.seed}")
        if args.overwrite_output_dir:
            checkpoints.remove_previous_run(args.output_dir)
        write_json(Path(args.output_dir) / "training_args.json", {"arguments": vars(args), "versions": tracking.versions()})
        versions = ", ".join(f"{name} {value}" for name, value in tracking.versions().items())
        logger.info("memory of %s on %s; %s", task.name, describe_device(device), versions)
        logger.info("teacher: %s, hidden states %d of %d layers of width %d; length %d, %s", args.model_name_or_path, layer,
                    depth, width, args.max_seq_length, "padding masked" if args.mask_padding else "all positions")
        logger.info("%s", plan.describe())
        start = time.perf_counter()
        source = TeacherFeatures(teacher.to(device), layer, dataset.to(device), args, tracker)
        clustering = cluster(
            source.batches, plan, seed=args.seed, device=device, tolerance=args.memory_tolerance,
            log=lambda report: report_pass(report, tracker),
        )
        memory = TeacherMemory(
            clustering.centroids.view(args.num_centroid, args.max_seq_length, width), clustering.counts,
            task=task.name, teacher=args.model_name_or_path, teacher_hash=teacher_hash,
            tokenizer_hash=tokenizer_hash(tokenizer), layer=layer, mask_padding=args.mask_padding,
            examples=len(dataset), passes=clustering.passes, inertia=clustering.inertia, seed=args.seed,
        )
        path = memory.save(args.output_dir)
        tracker.finish(vars(args), {"inertia": clustering.inertia, "seconds": time.perf_counter() - start})
        logger.info("wrote %s: %d centroids, %d to %d examples each, inertia %.6g, %.1f s", path, args.num_centroid,
                    clustering.counts.min(), clustering.counts.max(), clustering.inertia, time.perf_counter() - start)


class TeacherFeatures:
    """The flattened features [b, S·d] of one teacher layer over a dataset, batch by batch in the dataset's order."""

    def __init__(self, teacher, layer, dataset, args, tracker):
        # hidden_states[layer] is what the layer before it puts out: later layers need not run.
        teacher.bert.encoder.layer = teacher.bert.encoder.layer[:layer]
        self.encoder, self.dataset, self.args, self.tracker = teacher.bert, dataset, args, tracker
        self.batch_size = args.per_gpu_memory_train_batch_size or args.per_gpu_train_batch_size
        self.steps = 0

    @torch.no_grad()
    def batches(self):
        """Yield (index of the first example, features [b, S·d])."""
        start, since = 0, time.perf_counter()
        for indices in torch.arange(len(self.dataset)).split(self.batch_size):
            yield start, self._features(indices)
            start += len(indices)
            self.steps += 1
            if self.steps % self.args.logging_steps == 0:
                now = time.perf_counter()
                rate = self.args.logging_steps * self.batch_size / (now - since)
                self.tracker.scalars("memory", {"examples_per_second": rate}, self.steps)
                since = now

    def _features(self, indices):
        batch = self.dataset.batch(indices, cut_to_longest=self.args.mask_padding)
        hidden = self.encoder(
            input_ids=batch["input_ids"], token_type_ids=batch["token_type_ids"],
            attention_mask=models.attention_bias(batch["attention_mask"]),
        ).last_hidden_state
        if self.args.mask_padding:
            hidden = zero_padding(hidden, batch["attention_mask"])
            hidden = F.pad(hidden, (0, 0, 0, self.args.max_seq_length - hidden.shape[1]))
        return hidden.flatten(1)


def report_pass(report, tracker):
    """Send a pass's figures to the log and to TensorBoard."""
    logger.info("%s", report.describe())
    values = {"inertia": report.inertia, "refilled": report.refilled, "seconds": report.seconds}
    if report.shift is not None:
        values["shift"] = report.shift
    tracker.scalars("memory", values, report.number)
