"""One experiment from its arguments to its results; what the scripts share around the training loop."""

import sys
import time
from dataclasses import asdict
from pathlib import Path

from fsd import checkpoints, distributed, models, output_folder, resuming, tracking
from fsd.encoding import encode_split, tokenizer_hash, train_subset
from fsd.evaluation import evaluate, is_at_chance, predict_test_sets
from fsd.files import InputError, is_main_process, write_text
from fsd.glue import find_task, has_split
from fsd.hardware import describe_device, half_precision, pick_device
from fsd.losses import memory_products
from fsd.memory import StudentMemory, TeacherMemory
from fsd.objective import Objective, layer_pairs
from fsd.results import append_result
from fsd.teacher_cache import TeacherCache
from fsd.tracking import logger
from fsd.training import Run, format_values, train


def distill(args, gamma_i=0.0, gamma_l=0.0, gamma_g=0.0, gamma_m=0.5, teacher_memory_path=None):
    """Run one distillation script: train, evaluate and predict as the arguments say."""
    task, device = find_task(args.task_name), pick_device(args.no_cuda)
    with tracking.start_logging(), distributed.process_group(device):
        if not args.do_train:
            student_path = args.student_model_name_or_path or args.output_dir
            report_saved(args, task, device, student_path, "--student_model_name_or_path")
            return
        named = resuming.take_named_checkpoint(args)
        tokenizer = models.load_tokenizer(args)
        teacher = models.load_teacher(args, task, tokenizer)
        student, copied = models.build_student(args, teacher, task, tokenizer)
        depths = teacher.config.num_hidden_layers, student.config.num_hidden_layers
        objective = Objective(
            args.alpha, args.temperature, args.beta, gamma_i, gamma_l, gamma_g, gamma_m,
            tuple(layer_pairs(*depths, args.do_layerwise)), layer_pairs(*depths)[0],
        )
        memory = load_memory(args, task, teacher, tokenizer, objective, teacher_memory_path)
        train_set, dev_sets, test_sets = load_data(args, task, tokenizer, device)
        teacher.to(device)
        run = Run(args, task, objective, device, tokenizer, student.to(device), train_set, dev_sets, teacher)
        if memory is not None:
            centroids = memory.centroids.flatten(1)
            width = args.max_seq_length * student.config.hidden_size
            run.student_memory = StudentMemory(len(centroids), width, args.seed).to(device)
            run.teacher_memory = memory_products(centroids.to(device))
        if args.cache_teacher:
            layers = [layer for layer, _ in objective.compared_pairs]
            run.teacher_cache = TeacherCache(
                args.cache_teacher, teacher, train_set, layers, args.mask_padding, half_precision(args)
            )
        wanted = resuming.settings(
            args, task_name=task.name, model_name_or_path=models.model_hash(teacher), data_dir=train_set.fingerprint,
            student_model_name_or_path=models.model_hash(student), cache_teacher=bool(args.cache_teacher),
            teacher_memory_path=memory and models.tensor_hash({"centroids": memory.centroids}),
        )
        train_and_report(run, test_sets, copied, wanted, named)


def finetune(args):
    """Fine-tune, evaluate and predict with a single model, as the arguments say: the objective is the task loss."""
    task, device = find_task(args.task_name), pick_device(args.no_cuda)
    with tracking.start_logging(), distributed.process_group(device):
        if not args.do_train:
            report_saved(args, task, device, args.model_name_or_path or args.output_dir, "--model_name_or_path")
            return
        tokenizer = models.load_tokenizer(args)
        model, copied = models.build_for_finetuning(args, task, tokenizer)
        train_set, dev_sets, test_sets = load_data(args, task, tokenizer, device)
        run = Run(args, task, Objective(alpha=1.0), device, tokenizer, model.to(device), train_set, dev_sets)
        wanted = resuming.settings(
            args, task_name=task.name, model_name_or_path=models.model_hash(model), data_dir=train_set.fingerprint
        )
        train_and_report(run, test_sets, copied, wanted)


def load_memory(args, task, teacher, tokenizer, objective, path):
    """The teacher memory if the objective needs one, checked against everything that it was built from."""
    if not objective.needs_memory:
        return None
    if not path:
        raise InputError("the global structure needs --teacher_memory_path; build it with train_memory.py")
    memory = TeacherMemory.load(path)
    memory.check(
        task=task.name, tokenizer_hash=tokenizer_hash(tokenizer), teacher_hash=models.model_hash(teacher),
        layer=objective.global_pair[0], max_seq_length=args.max_seq_length, hidden_size=teacher.config.hidden_size,
        mask_padding=args.mask_padding,
    )
    return memory


def load_data(args, task, tokenizer, device):
    """(train set or None, dev sets, test sets) that the arguments ask for, encoded and on the device."""

    def load(split):
        return encode_split(task, args.data_dir, split, tokenizer, args.max_seq_length, args.overwrite_cache)

    train_set = None
    if args.do_train:
        train_set = load("train")
        if args.max_train_samples > 0:
            train_set = train_subset(train_set, args.max_train_samples, args.seed)
        train_set = train_set.to(device)
    wants_dev = args.do_eval or args.do_train
    dev_sets = [load(split).to(device) for split in task.dev_splits] if wants_dev else []
    test_sets = []
    for split in task.test_splits if args.do_predict else ():
        if split == "ax" and not has_split(task, args.data_dir, split):
            logger.warning("no AX diagnostic set beside MNLI: AX.tsv is not written; scripts/download_glue.py fetches it")
            continue
        test_sets.append(load(split).to(device))
    return train_set, dev_sets, test_sets


def score_teacher(run):
    """Print the teacher's dev score, and say so if it is no better than chance."""
    if not run.objective.needs_teacher or run.args.skip_teacher_eval:
        return
    metrics = evaluate(run.teacher, run.task, run.dev_sets, run.args.per_gpu_eval_batch_size, "scoring the teacher")
    logger.info("teacher on dev: %s", format_values(metrics))
    if is_at_chance(run.task, metrics, run.dev_sets[0]):
        logger.warning(
            "the teacher scores at chance on dev: %s; was it fine-tuned on %s, with labels in this order?",
            format_values(metrics), run.task.name,
        )


def train_and_report(run, test_sets, copied, wanted, named=None):
    """Train, from the start or on from where an earlier run of the same settings was saved, and write all results.

    Args:
        wanted: the settings of this run, as :func:`fsd.resuming.settings` gives them.
        named: the checkpoint-N that the command line names to go on from.
    """
    args = run.args
    if distributed.world_size() > 1:
        hashes = {role: models.model_hash(model) for role, model in (("student", run.student), ("teacher", run.teacher)) if model}
        distributed.check_same({"training data": run.train_set.fingerprint} | hashes)
    with resuming.held(args.output_dir):
        kind = f"{run.task.name}-{run.objective.method}-{args.seed}"
        beginning = resuming.find_beginning(args, wanted, kind, named)
        if beginning is None:
            return
        if beginning.checkpoint is None:
            score_teacher(run)
        facts = record(run)
        tracker = resuming.begin(args, beginning, wanted, facts)
        if is_main_process():
            checkpoints.keep_newest(args.output_dir, args.save_total_limit)  # killed after saving, a run has one too many
            describe(run, tracker, copied, beginning)
        start = time.perf_counter()
        if run.teacher_cache is not None:
            with distributed.main_process_first():
                run.teacher_cache.fill()
        seconds = time.perf_counter() - start + train(run, tracker, beginning.checkpoint)
        if is_main_process():
            checkpoints.save_model(args.output_dir, run.student, run.tokenizer, run.student_memory)
        metrics = report(run, test_sets, tracker)
        if is_main_process():
            row = result_row(run, copied, metrics, seconds) | {"run": beginning.name}
            append_result(args.results_file, row)
        resuming.write_record(args.output_dir, beginning, wanted, finished=True, **facts)
        logger.info("%s on %s, %d steps in %.1f s: %s", run.objective.method, run.task.name, run.steps, seconds,
                    format_values(metrics) or "not evaluated (no --do_eval)")


def report(run, test_sets, tracker):
    """Evaluate and predict with the trained student as the arguments say; returns its dev metrics."""
    args, output_dir, metrics = run.args, Path(run.args.output_dir), {}
    if args.do_eval or args.evaluate_during_training:
        metrics = evaluate(run.student, run.task, run.dev_sets, args.per_gpu_eval_batch_size)
        tracker.scalars("dev", metrics, run.steps)
        write_eval_results(output_dir, metrics)
        evaluate_checkpoints(args, run.task, run.tokenizer, run.dev_sets, run.device)
    for path in predict_test_sets(run.student, run.task, test_sets, args.per_gpu_eval_batch_size, output_dir / "predictions"):
        logger.info("wrote %s", path)
    tracker.finish({"method": run.objective.method, **vars(args)}, metrics, run.steps)
    return metrics


def report_saved(args, task, device, path, flag):
    """Without training: evaluate and predict with a saved model."""
    tokenizer = models.load_tokenizer(args, path, flag)
    model = models.load_finetuned(args, path, flag, task, tokenizer)
    _, dev_sets, test_sets = load_data(args, task, tokenizer, device)
    model.to(device).eval()
    output_dir = Path(args.output_dir)
    if args.do_eval:
        metrics = evaluate(model, task, dev_sets, args.per_gpu_eval_batch_size)
        write_eval_results(output_dir, metrics)
        evaluate_checkpoints(args, task, tokenizer, dev_sets, device)
        logger.info("%s on %s: %s", path, task.name, format_values(metrics))
    for written in predict_test_sets(model, task, test_sets, args.per_gpu_eval_batch_size, output_dir / "predictions"):
        logger.info("wrote %s", written)


def write_eval_results(output_dir, metrics, name="eval_results.txt"):
    """``key = value`` lines, sorted; written by the main process."""
    if is_main_process():
        write_text(Path(output_dir) / name, "".join(f"{key} = {value}\n" for key, value in sorted(metrics.items())))


def evaluate_checkpoints(args, task, tokenizer, dev_sets, device):
    """With ``--eval_all_checkpoints``, evaluate every checkpoint-N of the output folder."""
    for _, path in output_folder.checkpoints(args.output_dir) if args.eval_all_checkpoints else ():
        model = models.load_finetuned(args, str(path), "--output_dir", task, tokenizer)
        metrics = evaluate(model.to(device).eval(), task, dev_sets, args.per_gpu_eval_batch_size)
        write_eval_results(path, metrics)
        logger.info("%s: %s", path.name, format_values(metrics))


def record(run):
    """What ``training_args.json`` keeps to tell people: the flags, the objective, the versions."""
    return {
        "command": sys.argv, "arguments": vars(run.args), "method": run.objective.method,
        "objective": asdict(run.objective), "weights": run.objective.weights, "steps": run.steps,
        "processes": distributed.world_size(),
        "train_examples": len(run.train_set), "versions": tracking.versions(),
    }


def describe(run, tracker, copied, beginning):
    """The log's opening: all that decides what this run computes."""
    args, objective = run.args, run.objective
    versions = ", ".join(f"{name} {value}" for name, value in tracking.versions().items())
    processes = distributed.world_size()
    subset = f" (a subset, --max_train_samples {args.max_train_samples})" if args.max_train_samples > 0 else ""
    modes = (
        ("padding masked", args.mask_padding), ("batches of similar length", args.group_by_length), ("bf16", args.bf16),
        ("fp16", args.fp16), ("compiled, which takes minutes at the first steps", args.compile),
        (f"{processes} processes of {args.per_gpu_train_batch_size} examples each", processes > 1),
    )
    logger.info("%s on %s; %s", objective.method, describe_device(run.device), versions)
    logger.info(
        "%s: %d training examples%s, %d steps of %d × %d, length %d, seed %d%s", run.task.name, len(run.train_set), subset,
        run.steps, args.gradient_accumulation_steps, run.batch_size, args.max_seq_length, args.seed,
        "".join(f", {words}" for words, given in modes if given),
    )
    student = "student" if run.teacher is not None else "model"
    for role, model in (("teacher", run.teacher), (student, run.student)):
        if model is not None:
            shape = f"{model.config.num_hidden_layers} layers of width {model.config.hidden_size}"
            logger.info("%s: %s, %s parameters", role, shape, f"{models.parameter_count(model):,}")
    logger.info("%s's start: %s", student, copied.describe(run.student))
    if beginning.checkpoint is not None:
        logger.info("goes on from %s", beginning.checkpoint)
    logger.info("objective: %s", objective.formula())
    if objective.compared_pairs:
        pairs = ", ".join(f"({teacher}, {student})" for teacher, student in objective.compared_pairs)
        logger.info("hidden states compared (teacher, student): %s", pairs)
    if run.teacher_cache is not None:
        logger.info("cache: %s", run.teacher_cache.describe())
    logger.info("TensorBoard: %s", tracker.folder)


def result_row(run, copied, metrics, seconds):
    """The results file's row for a finished run."""
    args, objective = run.args, run.objective
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"), "task": run.task.name, "method": objective.method,
        "teacher": args.model_name_or_path if objective.needs_teacher else "", "output_dir": args.output_dir,
        "seed": args.seed, "alpha": objective.alpha, "beta": objective.beta, "temperature": objective.temperature,
        "gamma_i": objective.gamma_i, "gamma_l": objective.gamma_l, "gamma_g": objective.gamma_g,
        "gamma_m": objective.gamma_m, "do_layerwise": getattr(args, "do_layerwise", ""), "mask_padding": args.mask_padding,
        "copied_from": copied.source, "train_samples": len(run.train_set), "max_seq_length": args.max_seq_length,
        "batch_size": run.batch_size, "accumulation": args.gradient_accumulation_steps,
        "epochs": args.num_train_epochs, "steps": run.steps, "learning_rate": args.learning_rate,
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "float32", "group_by_length": args.group_by_length,
        "compile": args.compile, "cache_teacher": run.teacher_cache is not None, **metrics, "seconds": round(seconds, 1),
        "commit": tracking.commit(),
    }
