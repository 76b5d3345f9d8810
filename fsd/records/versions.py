"""The versions that ran."""

import platform
import subprocess
from pathlib import Path

import torch
import transformers


def commit():
    """The checkout's commit, with "+" where files are changed; "unknown" outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"


def versions():
    """Versions of what decides a run's numbers."""
    return {
        "commit": commit(), "python": platform.python_version(), "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def describe_versions():
    """All of them on one line."""
    return ", ".join(f"{name} {value}" for name, value in versions().items())
