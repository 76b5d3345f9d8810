"""Which flags decide a run's result. Imports nothing heavy."""

# Flags that change nothing in the trained model, but for rounding and dropout's draws as another machine does, and flags that
# name files, which are compared by content.
WITHOUT_INFLUENCE = {
    "output_dir", "overwrite_output_dir", "resume", "results_file", "run_file", "logging_steps", "log_relations", "save_steps",
    "save_total_limit", "do_train", "do_eval", "do_predict", "evaluate_during_training", "eval_all_checkpoints",
    "skip_teacher_eval", "overwrite_cache", "per_gpu_eval_batch_size", "local_rank", "no_cuda", "feature_cache_gb",
    "cache_dir", "model_name_or_path", "config_name", "tokenizer_name", "data_dir", "student_model_name_or_path",
    "student_config_name", "model_name_or_path_for_copy", "teacher_memory_path", "task_file", "push_to_hub",
    "cuda_graphs", "model_type", "student_model_type",
}
WITH_COLUMNS = {"task_name", "seed"}  # the results file has columns of these names


def deciding_flags(args):
    """Flag without its dashes → value, for every flag that affects training, without paths."""
    flags = {name: value for name, value in vars(args).items() if name not in WITHOUT_INFLUENCE}
    if "cache_teacher" in flags:
        flags["cache_teacher"] = bool(args.cache_teacher)
    return flags


def identifying_flags(args):
    """The part of :func:`deciding_flags` that tells runs of one task and seed apart: the results file's ``flags``."""
    return {name: value for name, value in deciding_flags(args).items() if name not in WITH_COLUMNS}
