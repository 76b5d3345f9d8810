"""Training in several processes that torchrun starts, on torch.distributed: NCCL for GPUs, gloo for CPUs.

N processes with a batch of B/N each compute the objective of the global batch of B. Each process runs the models on its
share and gathers the outputs of all. All then compute the same loss from the same tensors, so the losses need no code for
processes. Each then has the gradient of all outputs, and of the student memory, without sending any. The backward pass of
:func:`gather` keeps the gradient of the process's own rows, times N. The mean over the processes of the student's gradients
(:func:`average_gradients`) is then the gradient of the global batch, also for parameters that a loss uses after gathering.

With one process, no process group is made and these functions change nothing.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from fsd.system.errors import InputError, first_line
from fsd.system.launcher import is_main_process, started_alone
from fsd.system.signals import Stopped, overdue

PATIENCE = timedelta(days=7)  # how long processes wait for the work of one: practically without limit


def world_size():
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """This process's number, counted from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


_patient_group = None  # all processes, with the timeout PATIENCE
_waiting_thread = ThreadPoolExecutor(1)


@contextmanager
def process_group(device):
    """Connect the processes that torchrun started while the block runs; do nothing with only one process.

    Raises:
        InputError: variables that torchrun sets are missing, or the processes cannot connect.
    """
    if started_alone():
        yield
        return
    check_environment()
    _await(_connect, "nccl" if device.type == "cuda" else "gloo")
    yield
    dist.destroy_process_group()  # skipped after an error, when it could wait forever


def _connect(backend):
    global _patient_group
    dist.init_process_group(backend)
    _patient_group = dist.new_group(backend="gloo", timeout=PATIENCE)


def check_environment():
    """InputError if the variables that torchrun sets are missing, or are not numbers of processes and of a port."""
    size = os.environ["WORLD_SIZE"]
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise InputError(f"WORLD_SIZE is {size} in the environment, but {name} is not set; start processes with torchrun")
    highest_rank = int(size) - 1 if size.isdecimal() else 0
    for name, least, most in (("WORLD_SIZE", 1, 2**31), ("RANK", 0, highest_rank), ("LOCAL_RANK", 0, highest_rank),
                              ("MASTER_PORT", 1, 65535)):
        value = os.environ[name]
        if not value.isdecimal() or not least <= int(value) <= most:
            raise InputError(f"{name} is {value!r} in the environment, not a whole number from {least} to {most}; start "
                             "processes with torchrun, or unset it")


@contextmanager
def main_process_first():
    """Rank 0 runs the block first, however long it takes; then the others do. For work whose result is in a file."""
    if not is_main_process():
        wait_for_all()
    yield
    if is_main_process():
        wait_for_all()


def highest(*numbers):
    """The maximum of each whole number over all processes, as a list. Waits for the slowest, however long it takes."""
    if world_size() == 1:
        return list(numbers)
    values = torch.tensor(numbers)
    _await(dist.all_reduce, values, dist.ReduceOp.MAX, _patient_group)
    return values.tolist()


def wait_for_all():
    """Wait until every process calls this, however long it takes."""
    highest(0)


def check_same(digests, advice="do all nodes read the same files?"):
    """Raise an ``InputError`` if the processes have different data, for example if nodes read different files.

    Args:
        digests: name of the data → its hexadecimal digest in this process.
        advice: the end of the message.

    Raises:
        InputError: in every process; names the first difference.
    """
    for what, digest in digests.items():
        number = int(digest[:15], 16)
        largest, negated_smallest = highest(number, -number)
        if largest != -negated_smallest:
            raise InputError(f"not all processes have the same {what}; {advice}")


def share(count):
    """This process's contiguous share of ``count`` items, as a slice.

    Sizes differ by at most one. Shares are empty in some processes if there are fewer items than processes.
    """
    start, stop = (-(-count * number // world_size()) for number in (rank(), rank() + 1))
    return slice(start, stop)


def sum_over_processes(tensor):
    """Replace a tensor by its sum over all processes, with the same bits in each; returns it."""
    if world_size() > 1:
        _await(dist.all_reduce, tensor)
    return tensor


def every_process(tensor):
    """The tensors of all processes, stacked: [number of processes, …]."""
    stacked = tensor.new_zeros(world_size(), *tensor.shape)
    stacked[rank()] = tensor
    return sum_over_processes(stacked)


def gather(own, count):
    """The rows of all processes [count, …] from this process's :func:`share` [n, …], in float32 or higher.

    Rows of ``own`` beyond its share are left out. Every process must compute the same from the rows: the gradient of ``own``
    is N times its part of this process's gradient of the rows, see the top of this file.

    Uneven and empty shares are added to zeros, which sends twice as much. With BERT-base, a global batch of 64 and length
    128, even shares send 25 MB per layer of each model. For comparison, the gradients of a student of six layers without
    the word embeddings take 175 MB.
    """
    if world_size() == 1:
        return own
    bounds = share(count)
    own = own[: bounds.stop - bounds.start]
    return _Gather.apply(own.to(torch.promote_types(own.dtype, torch.float32)), count)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own, count):
        if count % world_size() == 0:
            rows = own.new_empty(count, *own.shape[1:])
            # detach, because no_grad does not hold in the thread that waits
            _await(dist.all_gather, list(rows.chunk(world_size())), own.detach().contiguous())
            return rows
        rows = own.new_zeros(count, *own.shape[1:])
        rows[share(count)] = own
        return sum_over_processes(rows)

    @staticmethod
    def backward(ctx, gradient):
        return gradient[share(len(gradient))] * world_size(), None


def average_gradients(parameters, embeddings, rows):
    """Replace every gradient by its mean over the processes, in one all-reduce.

    Args:
        parameters: those whose whole gradient is sent.
        embeddings: a parameter [V, d] whose gradient is zero in all processes, but for ``rows``.
        rows: different row numbers [n], the same in every process.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    parts = [*gradients, embeddings.grad[rows]]
    means = sum_over_processes(torch.cat([part.flatten() for part in parts])).div_(world_size())
    *means, of_rows = means.split([part.numel() for part in parts])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    embeddings.grad.index_copy_(0, rows, of_rows.view(len(rows), -1))


def _await(function, *arguments):
    """Call a function that waits for the other processes. A signal ends the wait: see :func:`fsd.system.signals.overdue`.

    The function runs in another thread, because Python handles signals in the main thread, and only between its own
    instructions. A GPU's collective is only put in the GPU's queue; the wait is then in :func:`highest`. Each thread has a
    current stream of its own, so the other thread takes the caller's: on another one a collective could start before its
    tensors are computed.
    """
    start = time.monotonic()
    stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None
    try:
        call = _waiting_thread.submit(_call_on_stream, stream, function, *arguments)
        while not wait([call], timeout=0.5).done:
            if number := overdue(start):
                raise Stopped(number)
        call.result()
    except Stopped as stopped:
        raise Stopped(stopped.number, waiting=True) from None
    except torch.OutOfMemoryError:  # of this process: it is told as such
        raise
    except RuntimeError as error:
        raise InputError(
            f"another process of this run cannot be reached; its own error says why ({first_line(error)})"
        ) from error


def _call_on_stream(stream, function, *arguments):
    with torch.cuda.stream(stream):  # None, where there is no GPU, changes nothing
        return function(*arguments)
