"""Where a copy of weights and moments is made while training waits: in memory where there is room, else on the disk.

A file system in memory takes a copy several times as fast as a disk that is waited for, and a run has to wait for the
copy alone; `Draft.write` brings it to the disk while the next steps are made. The files lose their names as soon as
they are open: whatever kills the process, its memory is given back.
"""

import os
import shutil
import tempfile
from pathlib import Path

from subgpt.checkpoint.lock import is_alive
from subgpt.machine import memory_left

_MEMORY = Path("/dev/shm")
_PREFIX = "subgpt-"


def memory_folder(needed: int) -> Path | None:
    """Make a folder in memory that takes `needed` bytes; None where there is none or it would be tight.

    Half of what is free is left alone, of the folder's size as of the machine's memory.
    """
    try:
        if 2 * needed > min(memory_left(), shutil.disk_usage(_MEMORY).free):
            return None
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY))
    except OSError:
        return None


def sweep_memory() -> None:
    """Remove what processes left that were killed in the instant of a copy."""
    for path in _MEMORY.glob(f"{_PREFIX}*-*") if _MEMORY.is_dir() else ():
        owner = path.name[len(_PREFIX) :].split("-")[0]
        if owner.isdecimal() and not is_alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)  # another user's stays
