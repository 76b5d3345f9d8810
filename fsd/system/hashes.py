"""SHA-256 of files, tensors and models, to recognize a run's inputs wherever they are stored."""

import hashlib
import json

import torch

# Entries of a config that change nothing in what the model computes.
WITHOUT_EFFECT = {
    "architectures", "dtype", "torch_dtype", "transformers_version", "_name_or_path", "id2label", "label2id",
}


def file_hash(*paths):
    """SHA-256 (hex) over the contents of ``paths``, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def json_hash(value):
    """SHA-256 (hex) of a value as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def tensor_hash(tensors):
    """SHA-256 (hex) over the names and values of tensors, the same on any device."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())  # NumPy has no bfloat16
    return digest.hexdigest()


def model_hash(model):
    """SHA-256 (hex) over the names and values of a model's parameters and buffers."""
    return tensor_hash(model.state_dict())


def config_hash(config):
    """SHA-256 (hex) over what a model's config has in another way than its kind's defaults: weights do not tell dropout."""
    return json_hash({name: value for name, value in config.to_diff_dict().items() if name not in WITHOUT_EFFECT})
