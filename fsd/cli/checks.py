"""Parse and check command lines before importing anything heavy. Contradictions raise an :class:`InputError`."""

import os
import shutil
from pathlib import Path

from fsd.cli.structure_flags import check_structures, structure_weights
from fsd.glue.files import find_split, find_task_folder
from fsd.glue.predictions import HEADER
from fsd.glue.task_file import read_task_file
from fsd.glue.tasks import find_task
from fsd.models.hub import find_model
from fsd.records.output_folder import (
    PREDICTIONS,
    STATE_VALUES,
    check_eval_results,
    check_output_dir,
    checkpoints,
    is_resumable,
)
from fsd.records.publishing import check_push
from fsd.records.results import check_results_file
from fsd.system.errors import InputError, say
from fsd.system.files import begins_with, check_folder, check_ours, read_json
from fsd.system.launcher import is_main_process, started_alone

MAP_HEADER = "teacher,student_0"  # begins each CSV map of an analysis

MODELS = ("model_name_or_path", "config_name", "tokenizer_name", "student_model_name_or_path", "student_config_name",
          "model_name_or_path_for_copy")


def parse_training(parser):
    """Parse and check the command line of teacher fine-tuning."""
    args = parse_run(parser)
    check_models(args)
    return args


def parse_distillation(parser):
    """Parse and check the command line of a script of the paper's structures."""
    args = parse_run(parser)
    check_structures(args)
    weights = structure_weights(args)
    if args.do_train and args.beta * weights["gamma_g"] != 0 and not args.teacher_memory_path:
        raise InputError("the global structure needs --teacher_memory_path; build it with train_memory.py")
    if getattr(args, "teacher_memory_path", None) and not Path(args.teacher_memory_path).exists():
        raise InputError(f"--teacher_memory_path {args.teacher_memory_path}: nothing there; build it with train_memory.py")
    check_teacher_flags(args, needs_teacher=args.alpha < 1 or args.beta * sum(weights.values()) > 0)
    return args


def parse_baseline(parser):
    """Parse and check the command line of a baseline."""
    args = parse_run(parser)
    settle_baseline(args)
    check_teacher_flags(args, needs_teacher=args.method != "fine-tuning")
    return args


def settle_baseline(args):
    """Refuse weights that play no part in the method, and set them: 0, or what leaves the task loss alone."""
    of_method = {"fine-tuning": (), "rkd": ("alpha", "temperature", "rkd_distance", "rkd_angle")}
    allowed = of_method.get(args.method, ("alpha", "temperature", "beta"))
    for name in ("alpha", "temperature", "beta", "rkd_distance", "rkd_angle"):
        if name not in allowed and getattr(args, name) is not None:
            raise InputError(f"--method {args.method} has no --{name}; leave it out")
    if "beta" in allowed and args.beta is None:
        raise InputError(f"--method {args.method} needs --beta, the weight of its loss")
    if args.method == "rkd" and not (args.rkd_distance or args.rkd_angle):
        raise InputError("--method rkd needs --rkd_distance or --rkd_angle above 0")
    defaults = {"alpha": 0.5, "temperature": 5.0} if allowed else {"alpha": 1.0, "temperature": 1.0}
    for name, default in (defaults | {"beta": 0.0, "rkd_distance": 0.0, "rkd_angle": 0.0}).items():
        if getattr(args, name) is None:
            setattr(args, name, default)


def check_teacher_flags(args, needs_teacher):
    """Check the flags of a distillation that need a teacher or training, and then its models."""
    if args.model_name_or_path_for_copy and not args.copy_teacher:
        raise InputError("--model_name_or_path_for_copy needs --copy_teacher")
    if args.log_relations and not args.do_train:
        raise InputError("--log_relations needs --do_train")
    if args.cache_teacher and not args.do_train:
        raise InputError("--cache_teacher needs --do_train")
    if args.cache_teacher == "ram" and not started_alone():
        raise InputError("--cache_teacher ram: each process would keep all of it; name a folder, which they share")
    if args.cache_teacher and not needs_teacher:
        raise InputError("--cache_teacher: no loss compares with the teacher in this run; leave it out")
    check_models(args)


def parse_memory(parser):
    """Parse and check the command line of ``train_memory.py``."""
    args = parser.parse_args()
    drop_flags_without_effect(args, "local_rank", "num_train_epochs", "save_steps")
    check_data(args, train=True)
    check_outputs(args)
    check_models(args)
    return args


def parse_analysis(parser):
    """Parse and check the command line of ``scripts/analyse.py``."""
    args = parser.parse_args()
    if not started_alone():
        raise InputError("this program runs as one process; start it without torchrun")
    check_data(args, dev=True)
    if args.split == "test":
        find_split(named_task(args), args.data_dir, "test")
    if args.curves and not Path(args.curves).is_dir():
        raise InputError(f"--curves {args.curves}: no such folder; name the run's folder below --run_file")
    check_analysis_files(args.output_file, args.csv)
    check_models(args)
    return args


def parse_run(parser):
    """Parse and check all flags except the models, which may need downloads and so are checked last."""
    args = parser.parse_args()
    drop_flags_without_effect(args, "local_rank")
    check_data(args, args.do_train, args.do_train or args.do_eval, args.do_predict)
    if not (args.do_train or args.do_eval or args.do_predict):
        raise InputError("nothing to do: give --do_train, --do_eval or --do_predict")
    if args.do_train and not args.model_name_or_path:
        raise InputError("--do_train needs --model_name_or_path")
    if args.evaluate_during_training and not args.do_train:
        raise InputError("--evaluate_during_training needs --do_train")
    if args.eval_all_checkpoints and not args.do_eval:
        raise InputError("--eval_all_checkpoints needs --do_eval")
    if args.overwrite_output_dir and not args.do_train:
        raise InputError("--overwrite_output_dir needs --do_train: without training there is nothing new to write")
    if args.resume and not args.do_train:
        raise InputError("--resume needs --do_train: it goes on with a training run")
    if args.push_to_hub:
        if not args.do_train:
            raise InputError("--push_to_hub needs --do_train: with --resume, a finished run is uploaded as it is")
        check_push(args.push_to_hub)
    check_training_flags(args)
    if args.compile and args.do_train:
        check_compiler()
    if args.cuda_graphs and args.do_train:
        check_cuda_graphs(args)
    if args.do_train:
        check_outputs(args)
    else:
        check_saved(args)
    return args


def check_training_flags(args):
    """Refuse flags of a training run that contradict each other."""
    if args.fp16 and args.bf16:
        raise InputError("--fp16 and --bf16 exclude each other: leave one of them out")
    if args.group_by_length and not args.mask_padding:
        raise InputError("--group_by_length needs --mask_padding: at full length it would gain nothing")


def drop_flags_without_effect(args, *names):
    """Take these flags out of ``args``, and warn about each that is set."""
    for name in names:
        if getattr(args, name) is not None and is_main_process():
            say(f"warning: --{name} has no effect; it is accepted only for compatibility")
        delattr(args, name)


def check_data(args, train=False, dev=False, test=False):
    """Raise an ``InputError`` if the task is unknown or its folder or the files of these splits are missing."""
    task = named_task(args)
    find_task_folder(task, args.data_dir)
    if test and not task.test_splits:
        raise InputError(f"--do_predict: --task_file {args.task_file} names no test file; name one there, or leave the flag out")
    splits = ["train"] * train + list(task.dev_splits) * dev
    splits += [split for split in task.test_splits if test and split != "ax"]
    for split in splits:
        find_split(task, args.data_dir, split)


def named_task(args):
    """The :class:`fsd.glue.tasks.Task` of ``--task_name`` or ``--task_file``."""
    return read_task_file(args.task_file) if args.task_file else find_task(args.task_name)


def named_model(args, name):
    """The :class:`fsd.models.hub.ModelSource` of the flag ``--name``, or None if the flag is not set."""
    value = getattr(args, name, None)
    return find_model(value, f"--{name}", args.cache_dir) if value else None


def check_models(args):
    """InputError for models that are neither there nor on the hub; those of the hub are downloaded."""
    for name in MODELS:
        if name != "student_model_name_or_path" or not getattr(args, "do_train", False) or not starts_fresh(args):
            named_model(args, name)


def starts_fresh(args):
    """Whether ``--student_model_name_or_path`` names no model to start from: it is missing, or it is the output folder."""
    name = getattr(args, "student_model_name_or_path", None)
    return not name or os.path.realpath(name) == os.path.realpath(args.output_dir)


def named_checkpoint(args):
    """The checkpoint that ``--student_model_name_or_path`` names, or None."""
    name = getattr(args, "student_model_name_or_path", None)
    if name and Path(name) in [path for _, path in checkpoints(Path(name).parent)] and not is_resumable(Path(name)):
        raise InputError(f"--student_model_name_or_path {name}: it lacks {STATE_VALUES}, so that training cannot go on from it; "
                         "name another checkpoint")
    return Path(name) if name and is_resumable(Path(name)) else None


def check_outputs(args):
    """Raise an ``InputError`` if an output cannot be written or would overwrite other files; changes nothing on disk."""
    if hasattr(args, "results_file"):
        check_results_file(args.results_file)
    check_folder(args.run_file, f"--run_file {args.run_file}")
    names = [name for name in MODELS if name != "student_model_name_or_path"]  # the student may be the output folder
    check_output_dir(
        args.output_dir, resume=args.resume, overwrite=args.overwrite_output_dir, checkpoint=named_checkpoint(args),
        read={f"--{name}": getattr(args, name, None) for name in (*names, "teacher_memory_path", "data_dir", "task_file")},
        written={f"--{name}": getattr(args, name, None) for name in ("results_file", "run_file", "cache_teacher")},
    )


def check_analysis_files(output_file, with_csv):
    """Raise an ``InputError`` if an analysis cannot be written, or would replace files that are no analysis of ours."""
    path, what = Path(output_file), f"--output_file {output_file}"
    check_folder(path.parent, what)
    if os.path.lexists(path) and not is_analysis(path):
        raise InputError(f"{what}: {path} is there and is no earlier analysis; name another file")
    for map_file in csv_files(path) if with_csv else ():
        if os.path.lexists(map_file) and not is_map(map_file):
            raise InputError(f"{what}: {map_file} is there and is no map of an earlier analysis; name another file")


def is_analysis(path):
    """Whether a file is an analysis that this program wrote."""
    try:
        content = read_json(path)
    except InputError:
        return False
    return isinstance(content, dict) and {"restoration", "cka", "layers", "relations"} <= content.keys()


def is_map(path):
    """Whether a file is a CSV map that this program wrote."""
    return begins_with(path, MAP_HEADER)


def csv_files(output_file):
    """The paths of an analysis's CSV files: of the heat map, the layer map, its chance levels, and its minibatch CKA."""
    return [Path(f"{output_file}.{name}.csv") for name in ("cka", "layers", "layers-chance", "layers-minibatch")]


def check_saved(args):
    """Without training: raise an ``InputError`` if no model is there, or if a file to write is another program's."""
    flag = "student_model_name_or_path" if hasattr(args, "student_model_name_or_path") else "model_name_or_path"
    if not getattr(args, flag) and not Path(args.output_dir).exists():
        reason = f"nothing there to evaluate; give --do_train, or the model with --{flag}"
        raise InputError(f"--output_dir {args.output_dir}: {reason}")
    check_folder(args.output_dir, f"--output_dir {args.output_dir}")
    if args.do_eval:
        check_eval_results(args.output_dir)
        check_results_file(args.results_file)
    for name in named_task(args).leaderboard_files.values() if args.do_predict else ():
        check_ours(Path(args.output_dir, PREDICTIONS, name), HEADER)


def check_cuda_graphs(args):
    """Raise an ``InputError`` if ``--cuda_graphs`` is beside a flag whose work cannot be recorded."""
    beside = {"--fp16": args.fp16, "--no_cuda": args.no_cuda, "several processes": not started_alone(),
              "--gradient_accumulation_steps": args.gradient_accumulation_steps > 1,
              "--similarity procrustes": getattr(args, "similarity", None) == "procrustes"}
    if refused := next((name for name, is_on in beside.items() if is_on), None):
        raise InputError(f"--cuda_graphs does not work with {refused}; leave one of them out")


def check_compiler():
    """Raise an ``InputError`` if the C++ compiler for ``--compile`` is missing."""
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        raise InputError(f"--compile needs the C++ compiler {compiler}, which is missing; install it, or leave --compile out")
