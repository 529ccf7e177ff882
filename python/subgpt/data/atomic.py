"""Files that are written piece by piece and are there whole or not at all.

`_core.write_atomic` does the same for what is in memory; here it may be larger than that.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from subgpt.errors import OutputError

if TYPE_CHECKING:
    from typing_extensions import Buffer


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Give a temporary file beside ``path``, which gets that name once all is written and on the disk.

    If the block raises, nothing is left behind, and what had the name before still has it.

    Raises:
        OutputError: The disk is full, or the directory cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_file(Path(folder, "a.bin")) as file:
    ...         _ = file.write(b"whole")
    ...     Path(folder, "a.bin").read_bytes()
    b'whole'

    """
    temporary: Path | None = None
    try:
        with _naming(path):
            beside = path.parent / f".subgpt-{secrets.token_hex(8)}.tmp"
            # With the permissions that `open` gives, unlike what `tempfile` makes.
            descriptor = os.open(
                beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666
            )
            temporary = beside
        with _Output(descriptor, path) as file:
            yield file
            with _naming(path):
                file.flush()
                os.fsync(file.fileno())
        with _naming(path):
            temporary.replace(path)
            temporary = None
            sync_directory(path.parent)
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


class _Output(io.BufferedWriter):
    """A file whose own errors name what is written: those of whoever writes are something else."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(io.FileIO(descriptor, "wb"), 1 << 20)
        self._path = path

    def write(self, data: Buffer, /) -> int:
        with _naming(self._path):
            return super().write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with _naming(self._path):
            return super().seek(offset, whence)

    def close(self) -> None:
        with _naming(self._path):
            super().close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:  # of a call inside this one
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free some space, or name another directory"
        ) from error


def sync_directory(directory: Path) -> None:
    """Make renames in ``directory`` survive a power cut; Windows does that by itself."""
    if os.name != "posix":  # Windows cannot open a directory as a file
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
