"""Text files of any size, cut at separators; what is too long to be held is put aside on the disk.

Of a text that is held, a few copies are made on the way to its ids. Texts beyond `LONG_CHARS` go into a temporary
file instead, which the tokenizer reads block by block.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp
from typing import IO

from subgpt.checkpoint.run_directory import naming
from subgpt.data.decoding import Decoded
from subgpt.data.prepare.hashing import Hashes, TextHash

LONG_CHARS = 64 << 20
_BLOCK = 1 << 20


class LongText:
    """A text on the disk, as UTF-8 of `size` bytes; whoever takes it calls `remove` in the end."""

    def __init__(self, folder: Path, seed: int) -> None:
        descriptor, name = mkstemp(prefix="text-", suffix=".txt", dir=folder)
        self.path = Path(name)
        self.blank = True
        self.size = 0
        self._file: IO[bytes] = open(descriptor, "wb", buffering=1 << 20)  # noqa: SIM115, PTH123
        self._hash = TextHash(seed)

    def append(self, text: str) -> None:
        """Add to its end."""
        data = text.encode("utf-8")
        self.blank = self.blank and (not text or text.isspace())
        self.size += len(data)
        self._hash.update(data)
        with naming(self.path):
            self._file.write(data)

    def blocks(self) -> Iterator[str]:
        """Give it back piece by piece, once it is closed."""
        with self.path.open(encoding="utf-8", newline="") as file:
            while block := file.read(_BLOCK):
                yield block

    def close(self) -> Hashes:
        """End it; give its hashes."""
        with naming(self.path):
            self._file.close()
        return self._hash.result()

    def remove(self) -> None:
        """Take it from the disk."""
        with suppress(OSError):  # of a full disk, which was complained of
            self._file.close()
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Piece:
    """A document of a text file: its text, the line it begins on, and whether bytes in it were replaced."""

    text: str | LongText
    line: int
    damaged: bool


class Cutter:
    """Cuts a text that comes in pieces at `separator`, as `read_documents` cuts a whole one.

    Args:
        separator: Where it stands alone on a line, the line end after it belongs to it. None: never cut.
        folder: Where long texts are put.
        seed: Of the hashes.
        long_chars: What is long.

    """

    def __init__(self, separator: str | None, folder: Path, seed: int, long_chars: int = LONG_CHARS) -> None:
        self._separator, self._folder, self._seed, self._long = separator, folder, seed, long_chars
        self._text, self._start = "", 0  # what begins at `_start` was not given yet
        self._before = "\n"  # the beginning of a file is the beginning of a line
        self._line = self._next_line = 1
        self._damaged = self._aside_damaged = False  # of what is held, and of what was put aside
        self._put_aside: LongText | None = None

    def cut(self, chunks: Iterator[Decoded]) -> Iterator[Piece]:
        """Give the documents, empty ones included, one by one."""
        try:
            scanned = 0
            for chunk in chunks:
                self._text += chunk.text
                self._damaged = self._damaged or chunk.damaged
                yield from self._whole_ones(scanned, final=False)
                if len(self._text) - self._start > self._long:
                    self._set_aside()
                self._text, self._start = self._text[self._start :], 0
                self._damaged = self._has_damage(self._text)
                scanned = max(0, len(self._text) - self._kept)
            yield from self._whole_ones(scanned, final=True)
            yield self._piece(len(self._text), len(self._text))
        finally:
            if self._put_aside is not None:
                self._put_aside.remove()

    @property
    def _kept(self) -> int:
        """Characters at the end that may yet belong to a separator and the line end after it."""
        return 0 if self._separator is None else len(self._separator) + 2

    def _whole_ones(self, scanned: int, *, final: bool) -> Iterator[Piece]:
        separator = self._separator
        if separator is None:
            return
        while (at := self._text.find(separator, scanned)) >= 0:
            after = at + len(separator)
            if after + 2 > len(self._text) and not final:
                return  # the line end after it may be still to come
            if (self._text[at - 1] if at else self._before) == "\n":
                end = self._text[after : after + 2]
                after += 2 if end == "\r\n" else 1 if end.startswith("\n") else 0
            yield self._piece(at, after)
            scanned = after

    def _piece(self, at: int, after: int) -> Piece:
        """Take a document from the front, which ends at `at`; the next begins at `after`."""
        rest = self._text[self._start : at]
        text: str | LongText = rest
        if self._put_aside is not None:
            self._put_aside.append(rest)
            text, self._put_aside = self._put_aside, None
        piece = Piece(text, self._line, self._aside_damaged or self._has_damage(rest))
        self._consume(after)
        self._line, self._aside_damaged = self._next_line, False
        return piece

    def _set_aside(self) -> None:
        if self._put_aside is None:
            self._put_aside = LongText(self._folder, self._seed)
        end = max(self._start, len(self._text) - self._kept)
        block = self._text[self._start : end]
        self._put_aside.append(block)
        self._aside_damaged = self._aside_damaged or self._has_damage(block)
        self._consume(end)

    def _has_damage(self, part: str) -> bool:
        return self._damaged and "\ufffd" in part

    def _consume(self, end: int) -> None:
        self._next_line += self._text.count("\n", self._start, end)
        self._before = self._text[end - 1] if end else self._before
        self._start = end
