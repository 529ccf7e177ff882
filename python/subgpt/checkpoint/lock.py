"""One run at a time in a directory: the operating system's own lock on a file, gone when its process is."""

import os
import sys
from pathlib import Path
from typing import IO

from subgpt.errors import CheckpointError, OutputError


class DirectoryLock:
    """Held from `with` to its end; a second holder gets a CheckpointError that names the first.

    doing: what the holder does there, for that message.
    """

    def __init__(self, path: Path, doing: str = "training") -> None:
        self.path = path
        self.doing = doing
        self._file: IO[str] | None = None

    def __enter__(self) -> "DirectoryLock":
        try:
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"{self.path}: {error.strerror}; choose an output_dir that can be written"
            ) from error
        try:
            _acquire(file)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise CheckpointError(
                f"{self.path.parent.parent}: {owner} is {self.doing} here; wait, or choose another output_dir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _acquire(file: IO[str]) -> None:
        file.seek(1 << 30)  # a byte far behind the text, so that the owner's line stays readable
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)

else:
    import fcntl

    def _acquire(file: IO[str]) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
