"""The device a run uses."""

import torch


def pick_device(no_cuda=False):
    """The GPU if there is one and ``no_cuda`` is not given, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and not no_cuda else "cpu")


def describe_device(device):
    """The device by name, with what a run's numbers depend on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    return f"CPU, {torch.get_num_threads()} threads"
