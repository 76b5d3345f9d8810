"""Several processes as torchrun starts them, on torch.distributed: NCCL between GPUs, gloo between CPUs.

N processes at a batch of B/N each compute one objective, that of the global batch. Each runs the models on its share and
gathers the outputs of the others, so that all evaluate the same scalar from the same tensors and the losses know nothing
of processes. Backward through :func:`gather` sums over the processes, which makes a process's gradient N times the part
that its share contributes; a parameter of the objective itself, the student memory, has the whole gradient everywhere.
So the mean over the processes, :func:`average_gradients`, is the gradient of the global batch for both.

With one process no process group is made, and nothing here changes a bit.
"""

import os
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from fsd.system.errors import InputError, first_line
from fsd.system.launcher import is_main_process, started_alone

PATIENCE = timedelta(days=7)  # for the work of one process that others wait for: only its end ends the waiting


def world_size():
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """This process's number, from 0 on."""
    return dist.get_rank() if dist.is_initialized() else 0


_patient_group = None  # of all processes, made with the process group


@contextmanager
def process_group(device):
    """Join the processes that torchrun started for as long as the block runs; do nothing where there is only one.

    Raises:
        InputError: the environment is not one that torchrun makes, or the processes do not find each other.
    """
    if started_alone():
        yield
        return
    global _patient_group
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            size = os.environ["WORLD_SIZE"]
            raise InputError(f"WORLD_SIZE is {size} in the environment, but {name} is not set; start processes with torchrun")
    with _one_line_for_a_lost_process():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        _patient_group = dist.new_group(backend="gloo", timeout=PATIENCE)
    yield
    dist.destroy_process_group()  # not after an error: it could wait for the others


@contextmanager
def main_process_first():
    """Rank 0 runs the block and then the others do, however long it takes: for work whose result they find in a file."""
    if not is_main_process():
        highest(0)
    yield
    if is_main_process():
        highest(0)


def highest(*numbers):
    """The highest of each whole number over all processes, as a list; waits for the slowest, however long it takes."""
    if world_size() == 1:
        return list(numbers)
    with _one_line_for_a_lost_process():
        values = torch.tensor(numbers)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=_patient_group)
    return values.tolist()


def check_same(digests):
    """Refuse what differs between the processes, such as files that nodes read from disks of their own.

    Args:
        digests: what it is → its hexadecimal digest in this process.

    Raises:
        InputError: in every process, naming the first that differs.
    """
    for what, digest in digests.items():
        number = int(digest[:15], 16)
        largest, negated_smallest = highest(number, -number)
        if largest != -negated_smallest:
            raise InputError(f"not all processes have the same {what}; do all nodes read the same files?")


def share(count):
    """This process's contiguous share of ``count`` things, as a slice.

    Shares differ by at most one; of fewer things than processes the first have one each, the others none.
    """
    start, stop = (-(-count * number // world_size()) for number in (rank(), rank() + 1))
    return slice(start, stop)


def sum_over_processes(tensor):
    """Replace a tensor by its sum over all processes, the same bits on each; returns it."""
    if world_size() > 1:
        with _one_line_for_a_lost_process():
            dist.all_reduce(tensor)
    return tensor


def every_process(tensor):
    """The tensors of all processes, stacked: [number of processes, …]."""
    stacked = tensor.new_zeros(world_size(), *tensor.shape)
    stacked[rank()] = tensor
    return sum_over_processes(stacked)


def gather(own, count):
    """The rows of all processes [count, …] from this one's :func:`share` [n, …], in float32 or higher, on every process.

    Rows of ``own`` beyond its share are left out. Its gradient is the sum over the processes of its rows' gradients.

    Rows are summed into zeros, which takes uneven and empty shares as they are. For BERT-base, a global batch of 64 and
    length 128 these are 25 MB a layer of either model, and for the student as many back, beside the 270 MB of gradients
    of a student of six layers.
    """
    if world_size() == 1:
        return own
    bounds = share(count)
    own = own[: bounds.stop - bounds.start]
    return _Gather.apply(own.to(torch.promote_types(own.dtype, torch.float32)), count)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own, count):
        rows = own.new_zeros(count, *own.shape[1:])
        rows[share(count)] = own
        return sum_over_processes(rows)

    @staticmethod
    def backward(ctx, gradient):
        return sum_over_processes(gradient.clone())[share(len(gradient))], None


def average_gradients(parameters):
    """Replace every gradient by its mean over the processes, all of them in one all-reduce.

    DistributedDataParallel would overlap this with backward. But it holds one module, and here there are the student and
    its memory; it would reduce at each batch of an accumulated update; and its parameters have other names.
    """
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    means = sum_over_processes(torch.cat([gradient.flatten() for gradient in gradients])).div_(world_size())
    for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


@contextmanager
def _one_line_for_a_lost_process():
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"another process of this run cannot be reached; its own error tells why ({first_line(error)})"
        ) from error
