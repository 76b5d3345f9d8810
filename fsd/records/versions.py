"""The versions of the code and its libraries."""

import platform
import subprocess
from pathlib import Path

import torch
import transformers

PROJECT = Path(__file__).resolve().parents[2]


def commit():
    """The checkout's commit, with "+" if files were changed; "unknown" outside a checkout of this project."""
    if Path(_git("rev-parse", "--show-toplevel")).resolve() != PROJECT:  # installed within a checkout of something else
        return "unknown"
    return _git("describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*") or "unknown"


def _git(*arguments):
    """What git answers in the project's folder; empty if it fails."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()


def versions():
    """The versions that affect a run's numbers."""
    return {
        "commit": commit(), "python": platform.python_version(), "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def describe_versions():
    """The versions on one line."""
    return ", ".join(f"{name} {value}" for name, value in versions().items())
