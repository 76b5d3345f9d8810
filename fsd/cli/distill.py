"""Distil a student from the arguments: train, evaluate and record it."""

import os
from pathlib import Path

from fsd.cli.checks import named_checkpoint, named_model, named_task, starts_fresh
from fsd.cli.experiment import data_contents, evaluate_saved, load_data, train_and_report, training_settings
from fsd.cli.models import load_teacher
from fsd.glue.encoding import tokenizer_hash
from fsd.glue.origin import DataOrigin, check_origin
from fsd.memory.student_memory import StudentMemory
from fsd.memory.teacher_memory import TeacherMemory
from fsd.method.global_structure import memory_products
from fsd.method.objective import Objective, layer_pairs
from fsd.models.kinds import KINDS, kind_of
from fsd.models.student import build_student, continue_student
from fsd.records.checkpoints import check_undamaged
from fsd.records.output_folder import RECORD_FILE, read_record, trained_on
from fsd.system.devices import pick_device
from fsd.system.errors import InputError
from fsd.system.hashes import config_hash, model_hash, tensor_hash
from fsd.system.logs import start_logging
from fsd.system.processes import process_group
from fsd.training.batch import compared_pairs
from fsd.training.run import Run
from fsd.training.teacher_cache import TeacherCache


def distill(args, **weights):
    """Train, evaluate and predict, as the arguments say.

    ``weights`` are those of the :class:`fsd.method.objective.Objective` that the script sets.
    """
    task, settings = named_task(args), training_settings(args)
    device = pick_device(args.no_cuda, args.cuda_graphs and args.do_train)
    with start_logging(), process_group(device):
        if not args.do_train:
            evaluate_saved(args, task, device, "student_model_name_or_path")
            return
        checkpoint = take_named_checkpoint(args)

        teacher_source, tokenizer, teacher = load_teacher(args, task)
        teacher_hash = model_hash(teacher)
        start = student_start(args, teacher, teacher_source, task, tokenizer)
        contents = {"model_name_or_path": teacher_hash, "student_model_name_or_path": model_hash(start.model)}
        contents |= {"config_name": config_hash(teacher.config), "student_config_name": config_hash(start.model.config)}

        objective = make_objective(args, teacher, start.model, weights)
        memory = student_memory = teacher_memory = clusters = None
        if objective.needs_memory:
            memory = load_memory(args, task, teacher, teacher_hash, tokenizer, objective)
            clusters = memory.assignment if args.student_memory_init == "centroids" else None
            read = {"centroids": memory.centroids} | ({} if clusters is None else {"assignment": clusters})
            contents["teacher_memory_path"] = tensor_hash(read)
            width = start.model.config.hidden_size
            student_memory = StudentMemory(len(memory.centroids), args.max_seq_length, width, args.seed).to(device)
            teacher_memory = memory_products(memory.centroids.to(device))

        train_set, dev_sets, test_sets = load_data(args, task, tokenizer, device)
        contents |= data_contents(task, train_set)
        check_origin(f"the teacher {teacher_source.name}", trained_on(teacher_source.folder), train_set.origin)
        if memory is not None:
            if args.student_memory_init == "centroids":
                memory.check_rows(train_set.origin.rows)
            built_on = DataOrigin(memory.data_hash, memory.file_hash, memory.split_of)
            check_origin(f"the memory {args.teacher_memory_path}", built_on, train_set.origin)
        cache = None
        teacher.to(device)
        if args.cache_teacher:
            layers = [layer for layer, _ in compared_pairs(objective, args.log_relations)]
            cache = TeacherCache(
                args.cache_teacher, teacher, teacher_hash, train_set, layers, args.mask_padding, settings.precision
            )

        run = Run(
            task=task, objective=objective, settings=settings, output_dir=Path(args.output_dir), device=device,
            tokenizer=tokenizer, student=start.model.to(device), train_set=train_set, dev_sets=dev_sets, teacher=teacher,
            student_memory=student_memory, teacher_memory=teacher_memory, teacher_cache=cache, clusters=clusters,
        )
        train_and_report(args, run, start, test_sets, contents, checkpoint)


def take_named_checkpoint(args):
    """The checkpoint-N that ``--student_model_name_or_path`` names, or None.

    The flag is then set back to its value in that run, so that the student's start is the same.
    """
    checkpoint = named_checkpoint(args)
    if checkpoint is not None:
        check_undamaged(checkpoint)
        record = read_record(checkpoint)
        start = record and record["arguments"].get("student_model_name_or_path")
        if not isinstance(start, str | None):
            raise InputError(f"{checkpoint / RECORD_FILE}: student_model_name_or_path is not a name; restore the file")
        home = record and record["arguments"].get("output_dir")
        is_fresh = start and isinstance(home, str) and os.path.realpath(start) == os.path.realpath(home)
        args.student_model_name_or_path = None if is_fresh else start
    return checkpoint


def student_start(args, teacher, teacher_source, task, tokenizer):
    """The :class:`fsd.models.student.Start` of the student: fresh, copied, or loaded, as the arguments say."""
    if source := starting_student(args):
        for flag in ("copy_teacher", "student_config_name"):
            if getattr(args, flag):
                raise InputError(f"--{flag} and the starting student {source.name} exclude each other: leave one of them out")
        return continue_student(source, task, tokenizer, args.max_seq_length, args.seed)
    copy_source = named_model(args, "model_name_or_path_for_copy") or teacher_source if args.copy_teacher else None
    config_source = named_model(args, "student_config_name")
    return build_student(
        teacher, teacher_source, task, tokenizer, args.max_seq_length, args.seed, config_source, copy_source
    )


def starting_student(args):
    """The model that ``--student_model_name_or_path`` names as the student's start, or None for a fresh student."""
    return None if starts_fresh(args) else named_model(args, "student_model_name_or_path")


def make_objective(args, teacher, student, weights):
    """The objective with the arguments' weights, for the layers of these two models."""
    depths = teacher.config.num_hidden_layers, student.config.num_hidden_layers
    is_pkd = weights.get("pkd", 0) != 0
    try:
        pairs = tuple(layer_pairs(*depths, layerwise=is_pkd or getattr(args, "do_layerwise", False)))
    except ValueError as error:
        raise InputError(f"{'--method pkd' if is_pkd else '--do_layerwise'}: {error}") from error
    for name, size in (("pkd", "hidden_size"), ("minilm", "num_attention_heads")):
        of_teacher, of_student = getattr(teacher.config, size, None), getattr(student.config, size, None)
        if weights.get(name, 0) and of_teacher != of_student:
            raise InputError(f"--method {name} needs the same {size} in teacher and student, not {of_teacher} and {of_student}")
    for model in (teacher, student):
        if weights.get("minilm", 0) and not kind_of(model.config).projections:
            known = ", ".join(name for name, kind in KINDS.items() if kind.projections)
            raise InputError(f"--method minilm: the attention of models of the kind {model.config.model_type} does not follow "
                             f"from queries and keys alone, or is not known here; name models of the kinds {known}")
    return Objective(
        args.alpha, args.temperature, args.beta, **weights, released_intra=getattr(args, "released_intra", False),
        debiased=getattr(args, "debiased", False), similarity=getattr(args, "similarity", "cka"),
        normalize_distances=getattr(args, "normalize_distances", False), pairs=pairs, default_pair=layer_pairs(*depths)[0],
    )


def load_memory(args, task, teacher, teacher_hash, tokenizer, objective):
    """Load the teacher memory and check that it fits the task, teacher, tokenizer and settings."""
    memory = TeacherMemory.load(args.teacher_memory_path)
    memory.check(
        task=task.name, tokenizer_hash=tokenizer_hash(tokenizer), teacher_hash=teacher_hash, layer=objective.default_pair[0],
        max_seq_length=args.max_seq_length, hidden_size=teacher.config.hidden_size, mask_padding=args.mask_padding,
    )
    return memory
