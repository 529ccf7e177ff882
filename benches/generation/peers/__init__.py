"""The libraries that generation is measured beside, a file each; what they need is imported once one is made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

EIGHT = 8
CONTEXT = 1024


class Side(Protocol):
    """A library with the weights in it."""

    name: str

    def prefill(self, ids: np.ndarray) -> None:
        """Read a prompt up to the logits of its last token."""

    def decoder(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        """Read a prompt; what is given back writes `new` tokens, each read again, and returns them."""

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        """Do the same with eight texts together; the tokens are those of the last one."""


class Peer(Side, Protocol):
    """A side out of the folder that subgpt saved. ImportError where it is not installed."""

    kinds: tuple[str, ...]

    def __init__(self, folder: Path, kind: str, threads: int) -> None: ...


def tool(module: str, *arguments: str | Path) -> None:
    """Run a converter in a process of its own, so that nothing of it stays in the one that is measured."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr[-2000:]}")
