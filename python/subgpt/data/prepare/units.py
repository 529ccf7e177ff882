"""How the work is cut: into units of some ten megabytes, which any process can do and redo alone.

A unit is several small files, or a part of a large one: of JSON Lines a range of bytes (a line belongs to the part
that it begins in), of Parquet some row groups. Any other large file is a unit by itself and read from its beginning
to its end, piece by piece. The cut depends on the files alone, and what comes out not even on the cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from subgpt.data.decoding import UTF16_BOMS
from subgpt.data.formats import format_of
from subgpt.data.formats.extra import need_module
from subgpt.data.jsonl import is_jsonl
from subgpt.data.reading import is_compressed, open_bytes
from subgpt.errors import DataError

UNIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Slice:
    """A file, or a part of one.

    Attributes:
        file: Its number among the files of the source.
        path: Where it lies.
        begin, end: The part: bytes of JSON Lines, row groups of Parquet; None: all of it.
        size: Its bytes on the disk, about, for progress.

    """

    file: int
    path: Path
    begin: int | None
    end: int | None
    size: int


Unit = tuple[Slice, ...]


def plan_units(files: Sequence[Path], unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """Cut files into units, in order.

    Raises:
        DataError: A file is gone or cannot be read.
        MissingExtraError: There is Parquet, and pyarrow is not installed.

    """
    units: list[Unit] = []
    small: list[Slice] = []
    size = 0
    for part in _slices(files, unit_bytes):
        if small and size + part.size > unit_bytes:
            units.append(tuple(small))
            small, size = [], 0
        small.append(part)
        size += part.size
    return [*units, tuple(small)] if small else units


def _slices(files: Sequence[Path], unit_bytes: int) -> Iterator[Slice]:
    for number, path in enumerate(files):
        size = size_of(path)
        if size > unit_bytes and is_jsonl(path) and not is_compressed(path) and not _is_utf16(path):
            for begin in range(0, size, unit_bytes):
                end = min(size, begin + unit_bytes)
                yield Slice(number, path, begin, end, end - begin)
        elif size > unit_bytes and (kind := format_of(path)) is not None and kind.name == "Parquet":
            yield from _row_groups(number, path, unit_bytes)
        else:
            yield Slice(number, path, None, None, size)


def _row_groups(number: int, path: Path, unit_bytes: int) -> Iterator[Slice]:
    parquet = need_module("pyarrow.parquet", f"{path}: reading Parquet")
    try:
        with parquet.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)]
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path}: not readable as Parquet ({str(error)[:200]}); fetch the file again"
        ) from error
    share = size_of(path) / max(1, sum(sizes))
    begin = size = 0
    for end, group in enumerate(sizes):
        if end > begin and (size + group) * share > unit_bytes:
            yield Slice(number, path, begin, end, int(size * share))
            begin, size = end, 0
        size += group
    if sizes:
        yield Slice(number, path, begin, len(sizes), int(size * share))


def size_of(path: Path) -> int:
    """Give the bytes of a file, or of all files of a directory.

    Raises:
        DataError: It is gone.

    """
    try:
        if path.is_dir():
            return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at ({error.strerror or error})") from error


def _is_utf16(path: Path) -> bool:
    with open_bytes(path) as file:
        return file.read(2).startswith(UTF16_BOMS)
