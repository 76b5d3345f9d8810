"""Fine-tune a teacher from the arguments: train, evaluate and record it."""

from pathlib import Path

from fsd.cli.checks import named_task
from fsd.cli.experiment import data_contents, evaluate_saved, load_data, train_and_report, training_settings
from fsd.cli.models import named_encoder
from fsd.method.objective import Objective
from fsd.models.student import build_for_finetuning
from fsd.system.devices import pick_device
from fsd.system.hashes import config_hash, model_hash
from fsd.system.logs import start_logging
from fsd.system.processes import process_group
from fsd.training.run import Run


def finetune(args):
    """Fine-tune one model on the task loss, evaluate and predict, as the arguments say."""
    task, device = named_task(args), pick_device(args.no_cuda, args.cuda_graphs and args.do_train)
    with start_logging(), process_group(device):
        if not args.do_train:
            evaluate_saved(args, task, device, "model_name_or_path")
            return
        source, tokenizer, config = named_encoder(args)
        start = build_for_finetuning(source, task, tokenizer, args.max_seq_length, args.seed, config)
        train_set, dev_sets, test_sets = load_data(args, task, tokenizer, device)
        contents = {"model_name_or_path": model_hash(start.model), "config_name": config_hash(start.model.config)}
        contents |= data_contents(task, train_set)
        run = Run(
            task=task, objective=Objective(alpha=1.0), settings=training_settings(args), output_dir=Path(args.output_dir),
            device=device, tokenizer=tokenizer, student=start.model.to(device), train_set=train_set, dev_sets=dev_sets,
        )
        train_and_report(args, run, start, test_sets, contents)
