"""Independent random streams from one seed: draws from one do not change another."""

import hashlib


def stream_seed(seed, stream):
    """A 63-bit seed for the stream named ``stream`` ("student", "order", "dropout", "student memory", ...) of ``seed``."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
