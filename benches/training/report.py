"""What a bench was run on, for its JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import subgpt


def circumstances(threads: int) -> dict[str, Any]:
    """Give date, machine, versions and commit."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "isa": subgpt.isa(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("subgpt", "numpy", "torch", "intel-openmp")},
        "commit": commit(),
        "load": os.getloadavg(),
    }


def cpu_model() -> str:
    """Give the processor's name as the kernel tells it, with family and model, which say more on a virtual machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return subgpt.__version__ if package == "subgpt" else None


def commit() -> str | None:
    """Give the commit of the subgpt that is measured, with a mark if its files differ from it."""
    assert subgpt.__file__ is not None
    git = ["git", "-C", str(Path(subgpt.__file__).parent)]
    try:
        name = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
