"""The versions of the code and its libraries."""

import platform
import subprocess
from pathlib import Path

import torch
import transformers


def commit():
    """The checkout's commit, with "+" if files were changed; "unknown" outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"


def versions():
    """The versions that affect a run's numbers."""
    return {
        "commit": commit(), "python": platform.python_version(), "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def describe_versions():
    """The versions on one line."""
    return ", ".join(f"{name} {value}" for name, value in versions().items())
