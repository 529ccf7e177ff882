"""One run at a time in a directory: the operating system's own lock on a file, gone when its process is.

The open file also knows where its directory is, should somebody rename it.
"""

import errno
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from subgpt.errors import CheckpointError, OutputError

_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK)


class DirectoryLock:
    """Held from `with` to its end; a second holder gets a CheckpointError that names the first.

    doing: what the holder does there, for that message.

    On a file system without locks (some network ones) the second is refused only where it can see that the first,
    named in the file, is alive on the same machine.
    """

    def __init__(self, path: Path, doing: str = "training") -> None:
        self.path = path
        self.doing = doing
        self._file: IO[bytes] | None = None

    def __enter__(self) -> "DirectoryLock":
        try:
            file = self.path.open("ab+", buffering=0)  # nothing is left to be written when it is closed
        except OSError as error:
            raise OutputError(
                f"{self.path}: {error.strerror}; choose an output_dir that can be written"
            ) from error
        try:
            _acquire(file)
            held = False
        except OSError as error:
            number = _process_of(_text(file))
            named = number is not None and number != os.getpid() and is_alive(number)
            held = error.errno in _HELD or named
        if held:
            owner = _text(file) or "another process"
            file.close()
            raise CheckpointError(
                f"{self.path.parent.parent}: {owner} is {self.doing} here; wait, or choose another output_dir"
            )
        with suppress(OSError):  # a full disk: the lock holds without a name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        self._file = file
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None

    def place(self) -> Path | None:
        """Tell where the locked file is by now: at `path`, where it was moved to, or None if it cannot be found."""
        if self._file is None:
            return self.path
        if _is_file(self.path, self._file):
            return self.path
        path = _path_of(self._file)
        return path if path is not None and _is_file(path, self._file) else None


def holder_is_alive(path: Path) -> bool:
    """Tell whether the process that a lock's file names runs on this machine, without taking the lock.

    No where there is no file, nobody holds it, or its holder is on another machine.
    """
    try:
        with path.open("rb") as file:
            number = _process_of(_text(file))
    except OSError:
        return False
    return number is not None and is_alive(number)


def is_alive(process: int) -> bool:
    """Tell whether a process of that number runs on this machine; yes where that cannot be told."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(1000).decode("utf-8", "replace").strip()


def _process_of(owner: str) -> int | None:
    """Give the 12 of "process 12 on host"; None where it is of another host, or says something else."""
    words = owner.split()
    named = len(words) == 4 and words[1].isdecimal() and words[3] == socket.gethostname()
    return int(words[1]) if named else None


def _is_file(path: Path, file: IO[bytes]) -> bool:
    """Tell whether `path` names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _path_of(file: IO[bytes]) -> Path | None:
    """Ask the system for the name of an open file; None where it has no way to say."""
    try:
        return Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))  # noqa: PTH115 - no path of a file to ask
    except OSError:
        return None


if sys.platform == "win32":
    import msvcrt

    def _acquire(file: IO[bytes]) -> None:
        file.seek(1 << 30)  # a byte far behind the text, so that the owner's line stays readable
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)

else:
    try:
        import fcntl

        def _acquire(file: IO[bytes]) -> None:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    except ImportError:  # a system without locks: the process that is named in the file has to do

        def _acquire(file: IO[bytes]) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), file.name)
