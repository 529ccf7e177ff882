"""Whether every machine of a cluster sees the files that this one sees, asked before the work begins."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subgpt import _core
from subgpt.errors import ConfigError

_SECONDS = 60.0
_LATE = 5.0
"""What is written on one machine may be seen on others of a network file system so much later."""


def check_nodes(ray: Any, nodes: Sequence[Mapping[str, Any]], output: Path, sources: Sequence[Path]) -> None:
    """Have every machine look for a file that is written into `output` now, and for `sources`.

    Raises ConfigError with the machine, the path, and what to do.
    """
    word = secrets.token_hex(8)
    folder = Path.cwd()
    probe = folder / output / f".subgpt-{word}.tmp"
    probe.write_text(word, encoding="utf-8")
    sizes = {str(path): _size(path) for path in _sample(sources)}
    try:
        look = ray.remote(_look)
        asked = {}
        for node in nodes:
            there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = look.options(num_cpus=0, scheduling_strategy=there).remote(
                str(probe), word, sizes, str(folder), _core.__version__
            )
            asked[task] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS)
        for task in ready:
            try:
                wrong = ray.get(task)
            except ray.exceptions.RayError as error:
                last = str(error).strip().splitlines()[-1][:200]
                wrong = f"cannot run subgpt ({last}); install the same version on every machine"
            if wrong:
                raise ConfigError(f"ray: machine {asked[task]} {wrong}")
        if late:
            ray.cancel(late[0], force=True)
            raise ConfigError(
                f"ray: machine {asked[late[0]]} did not answer within {_SECONDS:.0f} seconds; see `ray status`"
            )
    finally:
        probe.unlink(missing_ok=True)


def _sample(sources: Sequence[Path]) -> list[Path]:
    """Take one file of each directory: the others lie beside it."""
    return list({path.parent: path for path in sources}.values())


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _look(probe: str, word: str, sizes: Mapping[str, int | None], folder: str, version: str) -> str:
    """Say what is wrong on this machine; "" if nothing is."""
    share = "put sources and output on a file system that all machines mount in the same place"
    if _core.__version__ != version:
        return f"has subgpt {_core.__version__}, and here is {version}; install the same version on every machine"
    output = Path(probe).parent
    until = time.monotonic() + _LATE
    while not _has(Path(probe), word):
        if time.monotonic() > until:
            return f"does not see {output} as it is here; {share}"
        time.sleep(0.2)
    if not os.access(output, os.W_OK):
        return f"may not write in {output}; let it, or name another directory"
    for name, size in sizes.items():
        path = Path(folder, name)
        if not path.exists() or _size(path) != size:
            return f"does not see {path} as it is here; {share}"
    return ""


def _has(probe: Path, word: str) -> bool:
    try:
        return probe.read_text(encoding="utf-8") == word
    except OSError:
        return False
