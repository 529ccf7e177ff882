"""Where training text comes from: a file, a directory, a glob, or strings."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from subgpt.errors import DataError, DtypeError, MissingFileError

Source = str | os.PathLike[str] | Iterable[str]

_SNIFFED = 4096


def text_files(path: str | os.PathLike[str]) -> list[str]:
    """The files that ``path`` names, sorted.

    A directory gives its files at any depth, without hidden ones and without binary ones (a NUL in the first 4 KB).
    Where nothing has the name of ``path``, it is taken as a glob (``**`` for any depth).
    """
    name = os.fspath(path)
    if not isinstance(name, str):
        raise DtypeError(f"source must be a path, a glob or an iterable of str, not {type(name).__name__}")
    if "\0" in name:
        raise MissingFileError(f"{name!r} is no path: it contains a NUL")
    if Path(name).is_dir():
        found = sorted(_below(name))
        if not found:
            raise DataError(f"{name}: there are no text files in it; name a directory with text files, or a glob")
        return found
    if not Path(name).exists() and glob.has_magic(name):
        found = sorted(match for match in glob.glob(name, recursive=True) if Path(match).is_file())
        if not found:
            raise MissingFileError(f"no file matches {name!r}; correct the glob")
        return found
    return [name]


def _below(directory: str) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file() and not _is_binary(path):
                yield str(path)


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" in file.read(_SNIFFED)
