"""The flags of the programs, in groups that they share. Imports nothing heavy."""

from fsd.cli.parser import Parser, number, positive_or_unset
from fsd.glue.tasks import TASKS

MASK_PADDING_HELP = (
    "leave padding out of every structure and run each batch at its longest example's length: much faster where texts "
    "are short; a memory serves only students trained in the mode it was built in"
)


def add_data_arguments(parser):
    """Task, data folder and encoding."""
    group = parser.add_argument_group("data")
    group.add_argument("--task_name", required=True, help=f"one of {', '.join(task.name for task in TASKS)}, in any case")
    group.add_argument("--data_dir", required=True, help="the task's folder, or the GLUE folder above it")
    group.add_argument("--max_seq_length", type=number(int, 8), default=128,
        help="tokens an example is cut or padded to; the memory of FSD_G and FSD_ILG is built for one length")
    group.add_argument("--max_train_samples", type=positive_or_unset, default=-1,
        help="train on a random subset of this many examples, drawn from --seed; every output names it")
    group.add_argument("--overwrite_cache", action="store_true", help="encode the data again, though it was before")


def add_model_arguments(parser, role="teacher", required=False):
    """The model that is loaded: the teacher, or for teacher fine-tuning the pretrained model."""
    group = parser.add_argument_group(role)
    group.add_argument("--model_type", default="bert", choices=["bert"], help="architecture")
    group.add_argument("--model_name_or_path", required=required,
        help=f"folder or hub name of the {role}" + ("" if required else "; needed with --do_train"))
    group.add_argument("--config_name", help=f"the {role}'s config, where it does not lie beside the weights")
    group.add_argument("--tokenizer_name", help=f"the {role}'s tokenizer, where it does not lie beside the weights")
    group.add_argument("--cache_dir", help="where downloads from the hub are kept (default: the hub library's own place)")
    group.add_argument("--do_lower_case", action="store_true",
        help="lower-case the text; without it the tokenizer's own files decide")


def add_student_arguments(parser):
    """The student's shape and its start."""
    group = parser.add_argument_group("student")
    group.add_argument("--student_model_type", default="bert", choices=["bert"], help="architecture")
    group.add_argument("--student_model_name_or_path",
        help="with --do_train: --output_dir again, or nothing, for a fresh student; a folder or hub name of a model to "
             "start from; …/checkpoint-N to go on from that one (with --resume the newest in --output_dir wins). "
             "Without --do_train: the student to evaluate (default: --output_dir)")
    group.add_argument("--student_config_name",
        help="a config.json for a student of another width or depth (default: the teacher's with half its layers)")
    group.add_argument("--copy_teacher", action="store_true",
        help="start from every parameter of --model_name_or_path_for_copy whose name and shape match")
    group.add_argument("--model_name_or_path_for_copy", help="what --copy_teacher copies from (default: the teacher)")


def add_output_arguments(parser):
    """Where results go, and how often."""
    group = parser.add_argument_group("output")
    group.add_argument("--output_dir", required=True, help="folder for the model, its metrics and its predictions")
    group.add_argument("--overwrite_output_dir", action="store_true",
        help="remove the files of an earlier run of ours in --output_dir, and nothing else, once all inputs are checked")
    group.add_argument("--resume", action="store_true",
        help="go on with the run in --output_dir from its newest checkpoint, or start if there is none: the same command can "
             "be given again until the run is finished. For a run of the same settings it wins over --overwrite_output_dir")
    group.add_argument("--run_file", default="runs", help="TensorBoard folder; each run has a folder of its own in it")
    group.add_argument("--logging_steps", type=number(int, 1), default=50, help="steps between logged losses")
    group.add_argument("--local_rank", type=int,
        help="only for compatibility with old launch commands: has no effect")


def add_run_arguments(parser):
    """What is done, and what is kept of it; for scripts that train and evaluate."""
    group = parser.add_argument_group("what to do")
    group.add_argument("--do_train", action="store_true", help="train")
    group.add_argument("--do_eval", action="store_true", help="evaluate on dev: eval_results.txt and --results_file")
    group.add_argument("--do_predict", action="store_true", help="write test predictions as the GLUE leaderboard takes them")
    group.add_argument("--evaluate_during_training", action="store_true", help="evaluate at each epoch's end")
    group.add_argument("--eval_all_checkpoints", action="store_true",
        help="with --do_eval: evaluate each checkpoint-N in the output folder too")
    group.add_argument("--results_file", default="results.csv", help="CSV file that gets one row a finished run")
    group.add_argument("--save_steps", type=number(int, 1), default=500, help="steps between checkpoints")
    group.add_argument("--save_total_limit", type=number(int, 1), default=1, help="checkpoints kept; older ones are removed")


def add_training_arguments(parser):
    """Batches, optimizer and schedule."""
    group = parser.add_argument_group("training")
    group.add_argument("--per_gpu_train_batch_size", type=number(int, 1), default=8,
        help="examples a step and process; the structures between examples see the batch of all processes, so it matters "
             "(32 in the paper)")
    group.add_argument("--per_gpu_eval_batch_size", type=number(int, 1), default=8,
        help="examples a step and process in evaluation")
    group.add_argument("--gradient_accumulation_steps", type=number(int, 1), default=1,
        help="batches whose mean gradient makes one update; every structure still sees one batch at a time")
    group.add_argument("--learning_rate", type=number(float, above=0), default=5e-5, help="AdamW's, after warm-up")
    group.add_argument("--weight_decay", type=number(float, 0), default=0.0, help="AdamW's; not on biases and LayerNorm")
    group.add_argument("--adam_epsilon", type=number(float, above=0), default=1e-8, help="AdamW's")
    group.add_argument("--max_grad_norm", type=number(float, above=0), default=1.0, help="gradient norm is clipped to this")
    group.add_argument("--num_train_epochs", type=number(float, above=0), default=3.0, help="passes over the training set")
    group.add_argument("--max_steps", type=positive_or_unset, default=-1, help="updates; replaces --num_train_epochs")
    group.add_argument("--group_by_length", action="store_true",
        help="make batches of examples of similar length, at random otherwise: much faster where lengths vary, but it "
             "changes which examples meet in a batch, hence the structures between them; needs batches that are cut to "
             "their longest example (--mask_padding)")
    group.add_argument("--warmup_steps", type=number(int, 0), default=0, help="updates of linear warm-up; decay is linear")
    add_seed_argument(group)


def add_seed_argument(group):
    """The seed of every random stream."""
    group.add_argument("--seed", type=number(int, 0, 2**63 - 1), default=42, help="of every random stream of the run")


def add_hardware_arguments(parser, precision=True):
    """Device and precision."""
    group = parser.add_argument_group("hardware")
    group.add_argument("--no_cuda", action="store_true", help="stay on the CPU though there is a GPU")
    if precision:
        group.add_argument("--bf16", action="store_true",
            help="run the models in bfloat16 (autocast); the losses and the evaluation stay in float32")
        group.add_argument("--fp16", action="store_true",
            help="the same in float16, with a scaled loss: steps whose gradients overflow are left out; for GPUs, on a CPU it is "
                 "slower than float32")
        group.add_argument("--compile", action="store_true",
            help="torch.compile of teacher and student; needs a C++ compiler, takes minutes at the first steps, and with "
                 "--mask_padding rounds lengths up to a few")


def finetuning_parser(description):
    """The flags of ``scripts/finetune_teacher.py``."""
    parser = Parser(description)
    add_data_arguments(parser)
    add_model_arguments(parser, "pretrained model")
    add_run_arguments(parser)
    add_output_arguments(parser)
    add_training_arguments(parser)
    add_hardware_arguments(parser)
    # No structure is compared here, so cutting batches to their longest example changes nothing but the speed.
    parser.set_defaults(mask_padding=True)
    return parser


def distillation_parser(description):
    """The flags that the three distillation scripts share."""
    parser = Parser(description)
    add_data_arguments(parser)
    add_model_arguments(parser)
    add_student_arguments(parser)
    add_run_arguments(parser)
    add_output_arguments(parser)
    add_training_arguments(parser)
    add_hardware_arguments(parser)
    group = parser.add_argument_group("objective")
    group.add_argument("--alpha", type=number(float, 0, 1), default=0.5,
        help="weight of the task loss; 1 − alpha is that of the teacher's dark knowledge")
    group.add_argument("--beta", type=number(float, 0), default=30.0,
        help="weight of the structures; 0 is plain knowledge distillation. The best value varies much with the task")
    group.add_argument("--temperature", type=number(float, above=0, maximum=1e4), default=5.0,
        help="softens both sides' logits")
    group.add_argument("--do_layerwise", action="store_true",
        help="compare every student layer but the last with its teacher layer, instead of the last layers' inputs only")
    group.add_argument("--mask_padding", action="store_true", help=MASK_PADDING_HELP)
    parser.add_argument("--cache_teacher", metavar="ram|DIR",
        help="run the teacher over the training set once, before the first step, and keep its outputs in RAM or in a "
             "folder, where later runs find them; they are rounded to half precision")
    parser.add_argument("--skip_teacher_eval", action="store_true", help="do not score the teacher on dev before training")
    return parser


def add_memory_arguments(parser):
    """What the global structure needs; for the two scripts that have it."""
    group = parser.add_argument_group("global structure")
    group.add_argument("--gamma_m", type=number(float, 0, 1), default=0.5,
        help="weight of distances to the centroids; 1 − gamma_m is that of cosines. Distances start at some 11,000 beside "
             "a cross-entropy of 0.7: small values keep them from deciding everything")
    group.add_argument("--teacher_memory_path", help="the teacher memory that train_memory.py wrote: file or folder")
    return group


def memory_parser(description):
    """The flags of ``train_memory.py``."""
    parser = Parser(description)
    add_data_arguments(parser)
    add_model_arguments(parser, required=True)
    add_output_arguments(parser)
    add_hardware_arguments(parser, precision=False)
    group = parser.add_argument_group("memory")
    group.add_argument("--do_train", action="store_true", required=True, help="build the memory")
    group.add_argument("--num_centroid", type=number(int, 2), default=100,
        help="centroids K (the authors: 100, and 300 for MNLI and QQP)")
    group.add_argument("--memory_num_train_epochs", type=number(int, 2), default=3,
        help="passes over the training set; beyond 3 they gain little")
    group.add_argument("--memory_tolerance", type=number(float, 0, 1), default=1e-4,
        help="stop early when a pass lowers inertia by no more than this share")
    group.add_argument("--feature_cache_gb", type=number(float, 0), default=4.0,
        help="keep the features if they take no more than this many GB, so that the teacher runs only once")
    group.add_argument("--per_gpu_train_batch_size", type=number(int, 1), default=8, help="examples a forward and process")
    group.add_argument("--per_gpu_memory_train_batch_size", type=number(int, 1),
        help="the same, and the one that counts where both are given")
    group.add_argument("--mask_padding", action="store_true", help=MASK_PADDING_HELP)
    add_seed_argument(group)
    for flag, kind in (("--num_train_epochs", float), ("--save_steps", int)):
        group.add_argument(flag, type=kind, help="only for compatibility with the authors' command line: has no effect")
    return parser
