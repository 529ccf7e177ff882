"""What can be said about an installation and about a run directory, by name."""

import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subgpt.places import expanded

# What each extra installs, by the names that pip knows; a test compares it with pyproject.toml.
EXTRAS = {
    "plot": ("matplotlib",),
    "hub": ("huggingface_hub",),
    "data": ("pyarrow", "datasets"),
    "dedup": ("rensa",),
    "chat": ("prompt_toolkit",),
    "structured": ("llguidance",),
    "tensorboard": ("tensorboardX",),
    "wandb": ("wandb",),
    "distributed": ("mpi4py",),
    "ray": ("ray",),
    "eval": ("lm-eval",),
    "serve": (
        "fastapi",
        "starlette",
        "uvicorn",
        "anyio",
        "prometheus-client",
        "itsdangerous",
        "nicegui",
    ),
}
_PACKAGES = ("numpy", "pydantic", "typer", "rich", "jinja2", "PyYAML", "tqdm")
_THREADS, _ISA = "SUBGPT_NUM_THREADS", "SUBGPT_ISA"
_MOST_THREADS = 1024
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
# What else changes what a command does or prints.
_VARIABLES = (
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "NO_COLOR",
    "FORCE_COLOR",
    "TERM",
    "COLUMNS",
    "PYTHONPATH",
)


def environment() -> dict[str, Any]:
    """Describe this installation: all that a report of a problem should carry, and nothing secret.

    Versions, the processor as the kernels see it, threads and memory with what decided them, variables, extras, paths.
    """
    import subgpt
    from subgpt import _core

    facts: dict[str, Any] = {
        "subgpt": subgpt.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": _processor(),
        "instruction set": f"{_core.isa()} (available: {', '.join(_core.available_isas())}); {_why_isa()}",
        "bfloat16": _bfloat16(),
        "threads": _core.get_num_threads(),
        "threads are": _why_threads(),
        "cores": _cores(),
        "memory": _memory(),
    }
    facts |= {f"build {name}": value for name, value in _core.build_info().items() if name != "version"}
    facts |= dict(_variables())
    facts["packages"] = ", ".join(f"{name} {version_of(name) or 'missing'}" for name in _PACKAGES)
    facts |= {f"extra {extra}": _extra(extra) for extra in EXTRAS}
    facts["encoding"] = f"files {sys.getfilesystemencoding()}, output {getattr(sys.stdout, 'encoding', None)}"
    facts["package"] = str(Path(subgpt.__file__).parent)
    facts["native module"] = str(getattr(_core, "__file__", "unknown"))
    facts["interpreter"] = sys.executable
    facts["models of the hub"] = str(_hub_home())
    facts["temporary files"] = tempfile.gettempdir()
    return facts


def complaints() -> Iterator[str]:
    """Say which variables of the native module cannot be what they are, and are passed over."""
    from subgpt import _core

    threads, isa = (os.environ.get(name, "").strip() for name in (_THREADS, _ISA))
    if threads and not _is_number_of_threads(threads):
        yield f"{_THREADS} = {threads!r} is not used; give a whole number from 1 to {_MOST_THREADS}"
    if isa and isa not in (available := _core.available_isas()):
        yield f"{_ISA} = {isa!r} is not used; this processor has {', '.join(available)}"


def version_of(package: str) -> str | None:
    """Give the version of an installed package; None if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extra(name: str) -> str:
    """Write the versions of an extra's packages, or how to get those that are missing."""
    versions = {package: version_of(package) for package in EXTRAS[name]}
    found = [f"{package} {version}" for package, version in versions.items() if version]
    missing = [package for package, version in versions.items() if not version]
    if not missing:
        return ", ".join(found)
    remedy = f'pip install "subgpt[{name}]"'
    return f"{', '.join(missing)} missing: {remedy}" if found else f"not installed: {remedy}"


def _variables() -> Iterator[tuple[str, str]]:
    """List the variables that matter; of a secret only that it is set."""
    for name, value in sorted(os.environ.items()):
        if name.startswith("SUBGPT_") or name in _VARIABLES:
            yield name, "set, and not shown" if name.endswith(_SECRETS) else value


def _is_number_of_threads(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 1 <= int(text) <= _MOST_THREADS


def _why_threads() -> str:
    if _is_number_of_threads(os.environ.get(_THREADS, "").strip()):
        return f"what {_THREADS} says"
    return "as many as this process may use of the cores"


def _why_isa() -> str:
    from subgpt import _core

    wanted = os.environ.get(_ISA, "").strip()
    return f"{_ISA} says so" if wanted and wanted == _core.isa() else "the best there is"


def _cores() -> str:
    """Write how many cores there are, and how many of them are left to this process."""
    parts = [f"{os.cpu_count()} in this machine"]
    if hasattr(os, "sched_getaffinity"):
        parts.append(f"{len(os.sched_getaffinity(0))} by the affinity mask")
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        parts.append(f"{int(quota) / int(period):.3g} by the control group")
    except (OSError, ValueError):  # no such group, or "max"
        pass
    return ", ".join(parts)


def _memory() -> str:
    from subgpt.machine import memory_limit
    from subgpt.units import in_memory

    limit = memory_limit()
    return "unknown" if limit is None else f"{in_memory(limit)} for this process"


def _hub_home() -> Path:
    """Find where huggingface_hub keeps what it fetched, by its own rules."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return expanded(os.environ.get("HF_HOME") or Path(cache) / "huggingface")


def _processor() -> str:
    """Name the processor as its maker does, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _bfloat16() -> str:
    from subgpt import _core

    if not _core.has_bf16():
        return "in software: slower than float32"
    return "in hardware" if _core.prefers_bf16() else "in hardware, but slower than float32"


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
