"""SHA-256 of files, tensors and models, by which what a run read is known again wherever it lies."""

import hashlib
import json


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
    """SHA-256 (hex) over the names and values of tensors, on whichever device they are."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def model_hash(model):
    """SHA-256 (hex) over a model's parameters, names and values: the same wherever it was loaded from."""
    return tensor_hash(model.state_dict())
