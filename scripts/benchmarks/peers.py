"""TextBrewer's distiller with the same models, batches and loss, for ``--peers``."""

import contextlib
import io
import time
import warnings

import torch

from benchmarks.timing import Contender, synchronize


class BlockEnd(Exception):
    """Ends a block: TextBrewer's own end would write a checkpoint."""


def textbrewer(bench):
    """TextBrewer's training as a contender; None, and a line, where it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            from textbrewer import BasicDistiller, DistillationConfig, TrainingConfig
    except ImportError:
        print("TextBrewer is not installed: its row is left out; pip install textbrewer", flush=True)
        return None
    data, device, size = bench.data["CoLA"], bench.device, bench.size
    attention_mask = (torch.arange(size.length) < data.lengths[:, None]).long().to(device)
    columns = {"input_ids": data.input_ids.long(), "attention_mask": attention_mask,
               "token_type_ids": data.token_type_ids.long(), "labels": data.labels}
    distiller = BasicDistiller(
        TrainingConfig(ckpt_steps=10**9, output_dir=str(bench.folder), device=device),
        DistillationConfig(temperature=5, hard_label_weight=0.5, kd_loss_weight=0.5), bench.teacher, bench.student,
        lambda batch, outputs: {"logits": outputs.logits},
        lambda batch, outputs: {"logits": outputs.logits, "losses": outputs.loss},
    )

    def steps(count):
        times = []

        def batches():
            for step, rows in enumerate(torch.randperm(len(data)).to(device).split(size.batch_size)):
                if step in (1, count + 1):
                    synchronize(device)
                    times.append(time.perf_counter())
                if step > count:
                    raise BlockEnd
                yield {name: values[rows] for name, values in columns.items()}

        optimizer = torch.optim.AdamW(bench.student.parameters(), lr=5e-5, fused=True)
        try:
            with distiller, contextlib.redirect_stderr(io.StringIO()):  # hides the progress bar
                bench.student.train()
                distiller.train(optimizer, batches(), num_steps=10**9, max_grad_norm=1.0)
        except BlockEnd:
            return times[1] - times[0]

    return Contender("TextBrewer's KD", "", steps, bench.flops([(size.batch_size, size.length)], cached=False))
