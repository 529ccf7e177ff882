"""Sums that tell whether a file is still what was written: SHA-256, as `sha256sum` prints it.

Disks, cables and copies change bytes without an error. A weight that changed is a number like any other, so only a sum
finds it.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_CHUNK = 1 << 22


class CancelledError(Exception):
    """A copy was called off; nothing was published."""


def sum_of_file(path: Path) -> str:
    """Give the sum of a file as 64 hexadecimal digits. OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)  # lets other threads run
    return digest.hexdigest()


def copy_with_sum(source: IO[bytes], target: Path, cancelled: Callable[[], bool]) -> str:
    """Copy an open file to `target`, wait until it is on the disk, and give its sum.

    cancelled: asked between chunks; CancelledError where it says yes. OSError if the disk is full.
    """
    source.seek(0)
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            if cancelled():
                raise CancelledError(str(target))
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def sum_of_values(values: dict[str, Any]) -> str:
    """Give the sum of plain values, whatever the order of their names.

    >>> sum_of_values({"a": 1, "b": [0.5]}) == sum_of_values({"b": [0.5], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
