"""What can be said about an installation and about a run directory, by name."""

import importlib.util
import os
import platform
from pathlib import Path
from typing import Any

_EXTRAS = {"plot": "matplotlib"}


def environment() -> dict[str, Any]:
    """Describe this installation: versions, the processor as the kernels see it, threads, extras, paths."""
    import numpy as np

    import subgpt
    from subgpt import _core

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts: dict[str, Any] = {
        "subgpt": subgpt.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())})",
        "threads": _core.get_num_threads(),
        "cores": cores,
    }
    facts |= {f"build {name}": value for name, value in _core.build_info().items() if name != "version"}
    for extra, module in _EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        facts[f"extra {extra}"] = "installed" if found else f"not installed: pip install 'subgpt[{extra}]'"
    facts["package"] = str(Path(subgpt.__file__).parent)
    return facts


def run_facts(run: Path) -> dict[str, Any]:
    """Describe a saved model: its shape, size and tokenizer, and how training went if that is there."""
    from subgpt.checkpoint.load import load
    from subgpt.checkpoint.run_directory import RunDirectory

    model, tokenizer = load(run)
    directory = RunDirectory(run)
    facts: dict[str, Any] = {"path": str(run), "parameters": model.num_params()}
    facts |= {name: value for name, value in model.config.to_dict().items() if value is not None}
    facts["tokenizer"] = "none" if tokenizer is None else f"{tokenizer.vocab_size} tokens"
    if directory.metrics.is_file():
        facts |= _course(run)
    return facts


def _course(run: Path) -> dict[str, Any]:
    from subgpt.training.run import Run

    course = Run.load(run)
    facts: dict[str, Any] = {"steps": course.step}
    if course.losses:
        facts["training loss"] = round(course.losses[-1], 4)
    if course.val_losses:
        facts["validation loss"] = round(course.val_losses[-1], 4)
        facts["best validation loss"] = f"{course.best:.4f} at step {course.best_step}"
    return facts
