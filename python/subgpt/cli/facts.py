"""What can be said about an installation and about a run directory, by name."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Any

_EXTRAS = {
    "plot": "matplotlib",
    "data": "pyarrow",
    "hub": "huggingface_hub",
    "chat": "prompt_toolkit",
    "serve": "uvicorn",
    "tensorboard": "tensorboardX",
    "wandb": "wandb",
}
_PACKAGES = ("numpy", "pydantic", "typer", "rich", "jinja2", "PyYAML", "tqdm")


def environment() -> dict[str, Any]:
    """Describe this installation: all that a report of a problem should carry, and nothing of the user's.

    Versions, the processor as the kernels see it, threads, memory, `SUBGPT_*` variables, extras, paths.
    """
    import subgpt
    from subgpt import _core

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts: dict[str, Any] = {
        "subgpt": subgpt.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": _processor(),
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())})",
        "bfloat16": _bfloat16(),
        "threads": _core.get_num_threads(),
        "cores": cores,
        "memory": _memory(),
    }
    facts |= {f"build {name}": value for name, value in _core.build_info().items() if name != "version"}
    for name, value in sorted(os.environ.items()):
        if name.startswith("SUBGPT_"):
            facts[name] = "set, and not shown" if name.endswith("_KEY") else value
    facts["packages"] = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    for extra, module in _EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        facts[f"extra {extra}"] = "installed" if found else f"not installed: pip install 'subgpt[{extra}]'"
    facts["package"] = str(Path(subgpt.__file__).parent)
    facts["interpreter"] = sys.executable
    return facts


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _processor() -> str:
    """Name the processor as its maker does, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (AttributeError, OSError, ValueError):
        return "unknown"  # Windows has no sysconf


def run_facts(run: Path) -> dict[str, Any]:
    """Describe a saved model: its shape, size and tokenizer, and how training went if that is there."""
    from subgpt.checkpoint.load import load
    from subgpt.checkpoint.run_directory import RunDirectory

    model, tokenizer = load(run)
    directory = RunDirectory(run)
    facts: dict[str, Any] = {"path": str(run), "parameters": model.num_params()}
    facts |= {name: value for name, value in model.config.to_dict().items() if value is not None}
    facts["tokenizer"] = "none" if tokenizer is None else f"{tokenizer.level}, {tokenizer.vocab_size} tokens"
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


def _bfloat16() -> str:
    from subgpt import _core

    if not _core.has_bf16():
        return "in software: slower than float32"
    return "in hardware" if _core.prefers_bf16() else "in hardware, but slower than float32"
