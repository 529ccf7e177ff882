"""Which files a user means, and the text that is in them.

A source is named once and means the same everywhere: a file, a directory (read recursively), a glob, or a
list of these. The rules, all of them counted in the result so that they can be printed:

* Files come in the order of their path parts, on every platform, each file once however often it was reached.
* Inside a directory or a glob, binary files (a NUL byte in the first 8 KiB, the rule that git uses) and whatever
  is not a regular file (pipes, sockets, broken links) are skipped and counted. A file that is *named* is never
  skipped: it is read or refused.
* So are hidden entries (a leading dot) of a directory. A glob matches none, and none is counted, unless the dot is
  in it as well.
* Links to directories are followed, every directory once, so that a loop of links ends.
* A file or directory that may not be read is an error everywhere: silently training on less is worse than
  stopping.
"""

from __future__ import annotations

import glob
import os
import stat
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from subgpt.data.decoding import UTF16_BOMS
from subgpt.data.reading import open_bytes
from subgpt.errors import DataError, MissingFileError
from subgpt.places import beside, expanded, no_text

PathSource: TypeAlias = "str | os.PathLike[str]"
FileSource: TypeAlias = "PathSource | Sequence[PathSource]"

_BINARIES = {
    ".parquet": "make training data of it first: subgpt data prepare",
    ".gguf": "it is a model or tokenizer",
    ".safetensors": "it is a model's weights",
    ".pdf": "save it as text first",
    ".docx": "save it as text first",
    ".zip": "unpack it first",
}
SNIFFED_BYTES = 8192
"""How much of a file is looked at to tell text from binary."""


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The files of a source, and what was passed over on the way to them.

    Attributes:
        files: The files in reading order.
        hidden: Entries skipped because their name begins with a dot.
        binary: Files skipped because they hold NUL bytes.
        special: Pipes, sockets, devices and broken links skipped.

    """

    files: tuple[Path, ...]
    hidden: int = 0
    binary: int = 0
    special: int = 0

    def describe(self) -> str:
        """One line for the terminal.

        >>> FoundFiles((Path("a.txt"),), hidden=2, binary=1).describe()
        '1 file (skipped: 2 hidden, 1 binary)'
        """
        skipped = [f"{n} {what}" for n, what in self._skips() if n]
        files = f"{len(self.files)} file{'' if len(self.files) == 1 else 's'}"
        return f"{files} (skipped: {', '.join(skipped)})" if skipped else files

    def named(self) -> str:
        """Name the files for a message: the first of them, and how many more there are.

        >>> FoundFiles((Path("a.txt"), Path("b.txt"), Path("c.txt"))).named()
        'a.txt and 2 more files'
        """
        more = len(self.files) - 1
        return str(self.files[0]) + (f" and {more} more file{'s' * (more > 1)}" if more else "")

    def _skips(self) -> tuple[tuple[int, str], ...]:
        return (self.hidden, "hidden"), (self.binary, "binary"), (self.special, "special")


def find_files(source: FileSource, *, binary: tuple[str, ...] = ()) -> FoundFiles:
    """Find the files that ``source`` names.

    Args:
        source: A file, a directory, a glob (``*``, ``?``, ``[``, ``**``), or a list of these. ``~`` is
            expanded. A name that exists is never read as a glob, so ``notes[1].txt`` works.
        binary: Endings of files that are wanted though they are not text, in small letters.

    Raises:
        MissingFileError: A name that does not exist and matches nothing.
        DataError: No usable file in the source, a file that is not a regular file, or one that may not be
            read; a source that is neither a path nor a list.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "poem.txt").write_text("so much depends", encoding="utf-8")
    ...     [file.name for file in find_files(folder).files]
    ['poem.txt']

    """
    names = names_of(source)
    if not names:
        raise DataError("the list of files is empty; name at least one file, directory or glob")
    finder = _Finder(binary)
    for name in names:
        finder.add(name)
    if not finder.found.files:
        wanted = ", ".join(repr(os.fspath(name)) for name in names)
        raise DataError(
            f"no text files in {wanted}: {finder.found.describe()}; name a directory with text in it"
        )
    return finder.found


def names_of(source: FileSource) -> list[PathSource]:
    """List the names that ``source`` consists of.

    Raises:
        DataError: It is neither a path nor a list.

    """
    if isinstance(source, (str, os.PathLike)):
        return [source]
    if not isinstance(source, Iterable) or isinstance(source, (bytes, bytearray)):
        raise DataError(
            f"a path, or a list of paths, is expected as the source of files; got {source!r} "
            f"({type(source).__name__})"
        )
    return list(source)


class _Finder:
    """Collects files, remembering each file and directory it has seen."""

    def __init__(self, binary: tuple[str, ...]) -> None:
        self._wanted = binary
        self._files: list[Path] = []
        self._seen: set[str] = set()
        self._hidden = self._binary = self._special = 0

    @property
    def found(self) -> FoundFiles:
        return FoundFiles(tuple(self._files), self._hidden, self._binary, self._special)

    def add(self, name: PathSource) -> None:
        path = _checked_path(name)
        if _exists(path):
            self._add_named(path)
            return
        matches = sorted((Path(m) for m in _glob(path)), key=lambda p: p.parts)
        if not matches:
            raise MissingFileError(_missing(name, path))
        for match in matches:
            self._add_met(match)

    def _add_named(self, path: Path) -> None:
        mode = _mode(path)
        if mode is None:
            raise DataError(
                f"{path}: a symbolic link that leads nowhere or in a circle; name the file it should reach"
            )
        if stat.S_ISDIR(mode):
            if (why := no_text(path)) is not None:
                raise DataError(why)
            self._walk(path)
        elif not stat.S_ISREG(mode):
            raise DataError(
                f"{path}: not a regular file (a pipe, socket or device); save its contents to a file first"
            )
        elif (at := self._nul_offset(path)) is not None:
            what = _BINARIES.get(path.suffix.lower(), "name a text in UTF-8 or UTF-16")
            raise DataError(f"{path}: a binary file (NUL byte at offset {at}) and no text; {what}")
        else:
            self._take(path)

    def _add_met(self, path: Path) -> None:
        """Add an entry that a directory or glob led to; what cannot be used is counted."""
        mode = _mode(path)
        if mode is not None and stat.S_ISDIR(mode):
            self._walk(path)
        elif mode is None or not stat.S_ISREG(mode):
            self._special += 1
        elif self._nul_offset(path) is not None:
            self._binary += 1
        else:
            self._take(path)

    def _walk(self, directory: Path) -> None:
        # An explicit stack instead of recursion: a deep tree must not meet Python's recursion limit.
        stack = [directory]
        while stack:
            path = stack.pop()
            mode = _mode(path)
            if mode is None or not stat.S_ISDIR(mode):
                self._add_met(path)
            elif self._first_time(path):
                entries = _entries(path)
                shown = [entry for entry in entries if not entry.name.startswith(".")]
                self._hidden += len(entries) - len(shown)
                stack.extend(reversed(shown))

    def _take(self, path: Path) -> None:
        if self._first_time(path):
            self._files.append(path)

    def _nul_offset(self, path: Path) -> int | None:
        """Find what makes a file one that is not wanted; None if it is."""
        return None if path.name.lower().endswith(self._wanted) else _nul_offset(path)

    def _first_time(self, path: Path) -> bool:
        real = os.path.normcase(os.path.realpath(path))
        new = real not in self._seen
        self._seen.add(real)
        return new


def _checked_path(name: PathSource) -> Path:
    if not isinstance(name, (str, os.PathLike)):
        raise DataError(
            f"a path as str or pathlib.Path is expected, {type(name).__name__} was given: {name!r}"
        )
    text = os.fspath(name)
    if not isinstance(text, str):
        raise DataError(f"a path as str is expected, {type(text).__name__} was given: {text!r}")
    if not text:
        raise DataError(
            "the path is empty; name a file, directory or glob (use '.' for the current directory)"
        )
    if "\0" in text:
        raise DataError(f"the path {text!r} contains a NUL character, which no file name can")
    return expanded(text)


def _exists(path: Path) -> bool:
    """Say whether something has this name, a dangling link included; an impossible name does not exist."""
    try:
        return os.path.lexists(path)
    except (OSError, ValueError):
        return False


def _glob(path: Path) -> list[str]:
    text = str(path)
    return glob.glob(text, recursive=True) if glob.has_magic(text) else []  # noqa: PTH207 (Path.glob takes no absolute pattern)


def _missing(name: PathSource, path: Path) -> str:
    text = os.fspath(name)
    shown = text if len(text) <= 200 else text[:200] + "…"
    if glob.has_magic(str(path)):
        return f"nothing matches {shown!r} (looked from {Path.cwd()})"
    hint = "; to use a text itself, pass it in a list: [text]" if len(text) > 200 or "\n" in text else ""
    if not hint and (near := beside(path)) is not None:
        hint = f"; did you mean {near!r}?"
    return f"no such file or directory: {shown!r} (looked from {Path.cwd()}){hint}"


def _mode(path: Path) -> int | None:
    """Return the type bits of what ``path`` leads to; None for a link that leads nowhere or in a circle."""
    try:
        return path.stat().st_mode
    except PermissionError as error:
        raise DataError(f"{path}: no permission to look at it ({error.strerror})") from error
    except OSError:
        return None


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir(), key=lambda p: p.name)
    except OSError as error:
        raise DataError(f"{directory}: the directory cannot be read ({error.strerror or error})") from error


def _nul_offset(path: Path) -> int | None:
    """Find a NUL byte near the beginning; None for text, UTF-16 with its mark, and a broken ``.gz``."""
    with open_bytes(path) as handle:
        try:
            head = handle.read(SNIFFED_BYTES)
        except (OSError, EOFError, zlib.error):
            return None  # a broken .gz: reading it for good will say what is wrong
    if head.startswith(UTF16_BOMS):
        return None
    at = head.find(b"\0")
    return at if at >= 0 else None
