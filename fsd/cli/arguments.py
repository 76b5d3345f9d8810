"""The flags of the programs, in shared groups. Imports nothing heavy."""

from fsd.cli.parser import Parser, add_task_argument, number, positive_or_unset
from fsd.cli.structure_flags import add_memory_arguments, add_released_argument, add_structure_arguments

MASK_PADDING_HELP = ("leave padding out of every structure, and out of the batches: much faster for short texts. Build "
                     "the teacher memory and train the student with the same setting")


def add_data_arguments(parser, training=True):
    """Task, data folder and encoding; without ``training``, no flag of the training set."""
    group = parser.add_argument_group("data")
    add_task_argument(group)
    group.add_argument("--data_dir", required=True, help="the task's folder, or the GLUE folder above it")
    group.add_argument("--max_seq_length", type=number(int, 8), default=128,
        help="cut or pad examples to this many tokens; use the same length for the teacher memory and the student")
    if training:
        group.add_argument("--max_train_samples", type=positive_or_unset, default=-1,
            help="train on a random subset of this many examples, drawn from --seed; for quick trials")
    group.add_argument("--overwrite_cache", action="store_true", help="ignore cached encodings and encode again")


def add_model_arguments(parser, role="teacher", required=False):
    """The model to load: the teacher, or for teacher fine-tuning the pretrained model; returns the group."""
    group = parser.add_argument_group(role)
    group.add_argument("--model_type", default="bert", help="no effect: config.json tells the kind")
    group.add_argument("--model_name_or_path", required=required,
        help=f"folder or hub name of the {role}" + ("" if required else "; needed with --do_train"))
    group.add_argument("--config_name", help=f"the {role}'s config, if it is not beside the weights")
    group.add_argument("--tokenizer_name", help=f"the {role}'s tokenizer, if it is not beside the weights")
    group.add_argument("--cache_dir", help="folder for downloads from the hub (default: the hub library's own)")
    group.add_argument("--do_lower_case", action="store_true",
        help="lower-case the text; give it for uncased models (without it, the tokenizer's files decide)")
    return group


def add_student_arguments(parser):
    """The student's shape and initial weights."""
    group = parser.add_argument_group("student")
    group.add_argument("--student_model_type", default="bert", help="no effect: config.json tells the kind")
    group.add_argument("--student_model_name_or_path",
        help="with --do_train: leave it out (or give --output_dir) for a fresh student; a folder or hub name to start from "
             "that model; …/checkpoint-N to go on from there (--resume prefers the newest one in --output_dir). "
             "Without --do_train: the student to evaluate (default: --output_dir)")
    group.add_argument("--student_config_name",
        help="a config.json for a student of another width or depth (default: the teacher's with half its layers)")
    group.add_argument("--copy_teacher", action="store_true",
        help="copy every parameter of --model_name_or_path_for_copy whose name and shape match")
    group.add_argument("--model_name_or_path_for_copy", help="model that --copy_teacher copies from (default: the teacher)")


def add_output_arguments(parser):
    """Where and how often to write results."""
    group = parser.add_argument_group("output")
    group.add_argument("--output_dir", required=True, help="folder for all that the run makes")
    group.add_argument("--overwrite_output_dir", action="store_true",
        help="replace an earlier run in --output_dir; other files there stay")
    group.add_argument("--resume", action="store_true",
        help="go on from the newest checkpoint in --output_dir (a memory: after the last whole pass), or start if there is none: "
             "repeat the same command until the run is finished. For a run of the same settings it wins over "
             "--overwrite_output_dir")
    group.add_argument("--run_file", default="runs", help="TensorBoard folder; each run gets its own folder in it")
    group.add_argument("--logging_steps", type=number(int, 1), default=50, help="steps between logged values")


def add_run_arguments(parser):
    """What to do and which files to keep; for scripts that train and evaluate."""
    group = parser.add_argument_group("what to do")
    group.add_argument("--do_train", action="store_true", help="train")
    group.add_argument("--do_eval", action="store_true",
        help="evaluate on dev: eval_results.txt and --results_file; without --do_train, a finished run's row that has no scores "
             "gets them")
    group.add_argument("--do_predict", action="store_true", help="write test predictions for the GLUE leaderboard")
    group.add_argument("--evaluate_during_training", action="store_true", help="evaluate after each epoch")
    group.add_argument("--eval_all_checkpoints", action="store_true",
        help="with --do_eval: also evaluate each checkpoint-N in --output_dir")
    group.add_argument("--results_file", default="results.csv", help="CSV file that gets one row per finished run")
    group.add_argument("--push_to_hub", metavar="NAME", help="after training, upload the finished folder to the Hugging Face hub")
    group.add_argument("--save_steps", type=number(int, 1), default=500, help="steps between checkpoints")
    group.add_argument("--save_total_limit", type=number(int, 1), default=1, help="checkpoints to keep; removes older ones")


def add_training_arguments(parser):
    """Batches, optimizer and schedule."""
    group = parser.add_argument_group("training")
    group.add_argument("--per_gpu_train_batch_size", type=number(int, 1), default=8,
        help="examples per batch and process. It changes the result: FSD_L compares the examples of a batch (over all "
             "processes). The paper uses 32")
    group.add_argument("--per_gpu_eval_batch_size", type=number(int, 1), default=8,
        help="examples per batch and process in evaluation; raise it for speed")
    group.add_argument("--gradient_accumulation_steps", type=number(int, 1), default=1,
        help="batches per update; raise it if a larger batch does not fit. Structures still compare one batch at a time")
    group.add_argument("--learning_rate", type=number(float, above=0), default=5e-5, help="AdamW's peak, after warm-up")
    group.add_argument("--weight_decay", type=number(float, 0), default=0.0, help="not on biases and LayerNorm")
    group.add_argument("--adam_epsilon", type=number(float, above=0), default=1e-8, help="epsilon of AdamW; leave it alone")
    group.add_argument("--max_grad_norm", type=number(float, above=0), default=1.0, help="clip the gradient norm to this")
    group.add_argument("--num_train_epochs", type=number(float, above=0), default=3.0, help="passes over the training set")
    group.add_argument("--max_steps", type=positive_or_unset, default=-1, help="number of updates; replaces --num_train_epochs")
    group.add_argument("--group_by_length", action="store_true",
        help="put examples of similar length into one batch: faster if lengths vary, most with --compile, but it changes which "
             "examples FSD_L compares. Needs --mask_padding")
    group.add_argument("--warmup_steps", type=number(int, 0), default=0, help="updates of linear warm-up, before linear decay")
    add_seed_argument(group)


def add_seed_argument(group):
    """The random seed."""
    group.add_argument("--seed", type=number(int, 0, 2**63 - 1), default=42, help="seed of all random numbers")


def add_hardware_arguments(parser, precision=True):
    """Device and precision."""
    group = parser.add_argument_group("hardware")
    group.add_argument("--no_cuda", action="store_true", help="run on the CPU even if there is a GPU")
    if precision:
        group.add_argument("--bf16", action="store_true",
            help="run the models in bfloat16 (autocast): faster on recent GPUs. Losses and evaluation stay in float32")
        group.add_argument("--fp16", action="store_true",
            help="run the models in float16 with a scaled loss; skips steps whose gradients overflow. For GPUs without bfloat16; "
                 "on a CPU it is slower than float32")
        group.add_argument("--compile", action="store_true",
            help="compile teacher and student: worth it for long runs, as the first steps take minutes. Needs a C++ compiler; "
                 "with --mask_padding it rounds lengths up")
        group.add_argument("--cuda_graphs", action="store_true",
            help="record the kernels of a training step and replay them: faster where a GPU waits for Python, as with small "
                 "models. For one GPU; with --mask_padding it rounds lengths up")


def finetuning_parser(description):
    """The flags of ``scripts/finetune_teacher.py``."""
    parser = Parser(description)
    add_data_arguments(parser)
    add_model_arguments(parser, "pretrained model")
    add_run_arguments(parser)
    add_output_arguments(parser)
    add_training_arguments(parser)
    add_hardware_arguments(parser)
    add_compatibility_arguments(parser)
    # Fine-tuning compares no structures, so cutting batches to their longest example only makes them faster.
    parser.set_defaults(mask_padding=True)
    return parser


def add_kd_arguments(parser):
    """L_KD and the padding, which all distillation scripts share; returns the group, for a script's own weights."""
    group = parser.add_argument_group("objective")
    group.add_argument("--alpha", type=number(float, 0, 1), default=0.5,
        help="weight of the task loss; the loss on the teacher's logits has weight 1 − alpha")
    group.add_argument("--temperature", type=number(float, above=0, maximum=1e4), default=5.0,
        help="divides the logits of teacher and student; raise it for softer targets")
    group.add_argument("--mask_padding", action="store_true", help=MASK_PADDING_HELP)
    return group


def intra_inter_parser(description):
    """The flags of ``run_glue_intra_inter.py``."""
    parser = Parser(description)
    group = add_kd_arguments(parser)
    add_structure_arguments(group)
    group.add_argument("--internal", action="store_true", help="compare within each example (FSD_I), not between examples")
    add_released_argument(group)
    add_distillation_arguments(parser)
    return parser


def global_parser(description):
    """The flags of ``run_glue_global.py``."""
    parser = Parser(description)
    group = add_kd_arguments(parser)
    add_structure_arguments(group)
    add_memory_arguments(group)
    add_distillation_arguments(parser)
    return parser


def all_parser(description):
    """The flags of ``run_glue_all.py``."""
    parser = Parser(description)
    group = add_kd_arguments(parser)
    add_structure_arguments(group)
    group.add_argument("--gamma_i", type=number(float, 0), default=0.125, help="weight of the intra-feature structure")
    group.add_argument("--gamma_l", type=number(float, 0), default=0.125, help="weight of the local inter-feature structure")
    group.add_argument("--gamma_g", type=number(float, 0), default=0.5, help="weight of the global inter-feature structure")
    add_memory_arguments(group)
    add_released_argument(group)
    add_distillation_arguments(parser)
    return parser


def baseline_parser(description):
    """The flags of ``scripts/run_baseline.py``."""
    parser = Parser(description)
    group = add_kd_arguments(parser)
    group.add_argument("--method", required=True, choices=["fine-tuning", "pkd", "rkd", "minilm"],
        help="the baseline; fine-tuning is a student without distillation, and the others default to --alpha 0.5 --temperature 5")
    group.add_argument("--beta", type=number(float, above=0), help="with pkd and minilm: weight of their loss")
    group.add_argument("--rkd_distance", type=number(float, 0), help="with rkd: weight of the distances")
    group.add_argument("--rkd_angle", type=number(float, 0), help="with rkd: weight of the angles")
    add_distillation_arguments(parser)
    parser.set_defaults(alpha=None, temperature=None)  # as fine-tuning has neither
    return parser


def add_distillation_arguments(parser):
    """All other flags of the scripts that distil: the three of the structures, and that of the baselines."""
    add_data_arguments(parser)
    group = add_model_arguments(parser)
    group.add_argument("--cache_teacher", metavar="ram|DIR",
        help="run the teacher over the training set only once and keep its outputs, in half precision: in RAM, or in a folder "
             "that later runs reuse")
    group.add_argument("--skip_teacher_eval", action="store_true", help="do not evaluate the teacher on dev before training")
    group.add_argument("--log_relations", action="store_true",
        help="at logging steps, write how much the relations between examples and between tokens differ from the teacher's "
             "(the paper's Eq. 12 and 13) to TensorBoard")
    add_student_arguments(parser)
    add_run_arguments(parser)
    add_output_arguments(parser)
    add_training_arguments(parser)
    add_hardware_arguments(parser)
    add_compatibility_arguments(parser)


def add_compatibility_arguments(parser, **kinds):
    """Flags without effect, for old command lines: ``--local_rank`` and those of ``kinds``, name → type."""
    group = parser.add_argument_group("compatibility")
    for name, kind in ({"local_rank": int} | kinds).items():
        group.add_argument(f"--{name}", type=kind, help="no effect; accepted for old command lines")


def memory_parser(description):
    """The flags of ``train_memory.py``."""
    parser = Parser(description)
    group = parser.add_argument_group("memory")
    group.add_argument("--do_train", action="store_true", required=True, help="build the teacher memory")
    group.add_argument("--num_centroid", type=number(int, 2), default=100,
        help="number of centroids K (the authors use 100, and 300 for MNLI and QQP)")
    group.add_argument("--memory_num_train_epochs", type=number(int, 2), default=3,
        help="passes over the training set; more than 3 gain little")
    group.add_argument("--memory_tolerance", type=number(float, 0, 1), default=1e-4,
        help="stop early when a pass lowers the inertia by at most this share")
    group.add_argument("--feature_cache_gb", type=number(float, 0), default=4.0,
        help="keep features that fit in this many GB, so that the teacher runs only once; raise it if there is room")
    group.add_argument("--per_gpu_train_batch_size", "--per_gpu_memory_train_batch_size", type=number(int, 1), default=8,
        help="examples per batch and process")
    group.add_argument("--mask_padding", action="store_true", help=MASK_PADDING_HELP)
    add_seed_argument(group)
    add_data_arguments(parser)
    add_model_arguments(parser, required=True)
    add_output_arguments(parser)
    add_hardware_arguments(parser, precision=False)
    add_compatibility_arguments(parser, num_train_epochs=float, save_steps=int)
    return parser


def analysis_parser(description):
    """The flags of ``scripts/analyse.py``."""
    parser = Parser(description)
    add_data_arguments(parser, training=False)
    add_model_arguments(parser, required=True)
    group = parser.add_argument_group("student")
    group.add_argument("--student_model_name_or_path", required=True,
        help="folder or hub name of the student; the teacher itself gives the values that a perfect student would have")
    group = parser.add_argument_group("analysis")
    group.add_argument("--split", choices=["test", "dev"],
        help="the split of the CKA heat map; it needs no labels (default: test if its file is there, otherwise dev)")
    group.add_argument("--cka_batch_size", type=number(int, 2), default=32,
        help="examples in a mini-batch, in all analyses. CKA rises towards 1 as it gets smaller, so compare equal sizes only")
    group.add_argument("--max_batches", type=number(int, 1), default=32,
        help="most mini-batches of the CKA heat map; all other analyses take the whole of dev")
    group.add_argument("--mask_padding", action="store_true",
        help="set padded positions to zero, and leave them out of the pairs of tokens; by default they count, as in the paper")
    group.add_argument("--curves", metavar="FOLDER",
        help="folder of the student's TensorBoard files, or --run_file's, which has such a folder for each run; copies the "
             "relation differences that --log_relations logged")
    group = parser.add_argument_group("output")
    group.add_argument("--output_file", required=True, help="the JSON file to write; replaces an earlier analysis")
    group.add_argument("--csv", action="store_true",
        help="also write the maps as CSV files beside it: FILE.cka.csv, FILE.layers.csv, FILE.layers-chance.csv, "
             "FILE.layers-minibatch.csv")
    add_hardware_arguments(parser, precision=False)
    return parser
