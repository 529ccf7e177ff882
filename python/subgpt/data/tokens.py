"""A row of ids that lies in several files, mapped: what is read of it is what is used of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt.errors import DataError, InvalidValueError

U32Array: TypeAlias = npt.NDArray[np.uint32]
I64Array: TypeAlias = npt.NDArray[np.int64]
Tokens: TypeAlias = "U32Array | ShardedTokens"


class _Watch:
    """A mapped file: reading what somebody cut off of it meanwhile would end the process, so it is looked at before."""

    def __init__(self, path: Path) -> None:
        found = path.stat()
        self._path, self._file, self._size = path, (found.st_dev, found.st_ino), found.st_size

    def check(self) -> None:
        """Raise DataError if the file has become shorter; one that was replaced or deleted stays what was mapped."""
        try:
            found = os.stat(self._path)  # noqa: PTH116, for every window
        except OSError:
            return
        if (found.st_dev, found.st_ino) == self._file and found.st_size < self._size:
            raise DataError(
                f"{self._path}: was cut from {self._size} to {found.st_size} bytes while it was read; put the whole "
                "file back (under a new name that is then renamed to this one) and go on"
            )


class ShardedTokens:
    """Several rows of ids as one, each uint16 or uint32.

    Args:
        parts: The rows, in order; usually memory maps. Not copied. A mapped file that became shorter meanwhile is a
            DataError where it is read.

    >>> row = ShardedTokens([np.arange(3, dtype=np.uint16), np.arange(3, 7, dtype=np.uint16)])
    >>> len(row), row[1:5].tolist(), row.windows(np.array([0, 2]), 3).tolist()
    (7, [1, 2, 3, 4], [[0, 1, 2], [2, 3, 4]])

    """

    def __init__(self, parts: Sequence[npt.NDArray[np.unsignedinteger[Any]]]) -> None:
        self.parts = tuple(part for part in parts if len(part))
        self._watches = [_watch(part) for part in self.parts]
        self._begins = np.cumsum([0, *map(len, self.parts)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._begins[-1])

    def __getitem__(self, where: slice) -> U32Array:
        """Give a stretch of the row as uint32, a copy."""
        begin, end, step = where.indices(len(self))
        if step != 1:
            raise InvalidValueError(f"a stretch of tokens has no step, not {step}")
        row = np.empty(max(0, end - begin), dtype=np.uint32)
        done = 0
        number = int(np.searchsorted(self._begins, begin, side="right")) - 1
        while done < len(row):
            part, watch = self.parts[number], self._watches[number]
            if watch is not None:
                watch.check()
            first = begin + done - int(self._begins[number])
            take = min(len(part) - first, len(row) - done)
            row[done : done + take] = part[first : first + take]
            done, number = done + take, number + 1
        return row

    def windows(self, starts: I64Array, length: int) -> U32Array:
        """Give the stretches of ``length`` ids that begin at ``starts``, uint32 (len(starts), length)."""
        rows = np.empty((len(starts), length), dtype=np.uint32)
        for row, start in zip(rows, starts.tolist(), strict=True):
            row[:] = self[start : start + length]
        return rows


def _watch(part: npt.NDArray[Any]) -> _Watch | None:
    return _Watch(Path(part.filename)) if isinstance(part, np.memmap) and part.filename else None


def read_windows(tokens: Tokens, starts: I64Array, length: int) -> U32Array:
    """Give stretches of ``length`` ids, wherever the row lies.

    >>> read_windows(np.arange(9, dtype=np.uint32), np.array([4, 0]), 2).tolist()
    [[4, 5], [0, 1]]
    """
    if isinstance(tokens, ShardedTokens):
        return tokens.windows(starts, length)
    rows: U32Array = tokens[starts[:, None] + np.arange(length, dtype=np.int64)]
    return rows
