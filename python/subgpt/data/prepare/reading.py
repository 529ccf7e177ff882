"""The documents of a unit, from every kind of file, and what was passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subgpt.data.decoding import clean, decode
from subgpt.data.formats import format_of
from subgpt.data.formats.array import looks_like_array
from subgpt.data.formats.extra import need_module
from subgpt.data.jsonl import is_jsonl, parse_object
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.texts import Cutter, LongText
from subgpt.data.prepare.units import Slice, Unit
from subgpt.data.reading import open_bytes, read_lines, read_text_chunks
from subgpt.data.rows import Row, need_str
from subgpt.errors import DataError, first_line

NAMED_ROWS = 10
"""So many bad rows of a unit are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """A document: its text, the number of its slice in the unit, the line it begins on in that, and damage."""

    text: str | LongText
    slice: int
    line: int
    damaged: bool


@dataclass(slots=True)
class Tally:
    """What was passed over in a unit, and the lines of each of its slices, by which later ones are numbered."""

    empty: int = 0
    bad_rows: dict[int, int] = field(default_factory=dict)
    named: list[tuple[int, int, str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def bad(self, slice: int, line: int, why: str) -> None:
        """Count a row that cannot be used."""
        self.bad_rows[slice] = self.bad_rows.get(slice, 0) + 1
        if len(self.named) < NAMED_ROWS:
            self.named.append((slice, line, why))


def read_unit(unit: Unit, options: PrepareOptions, folder: Path, tally: Tally) -> Iterator[Found]:
    """Read the documents of a unit in order; `tally` is complete when the last one was given.

    Args:
        unit: What to read.
        options: How.
        folder: Where texts are put that are too long to be held.
        tally: Takes what is passed over.

    Raises:
        DataError: A broken file or row; its line is that in the file, also where only a part is read.

    """
    for number, part in enumerate(unit):
        tally.lines.append(0)
        for found in _read_slice(part, number, options, folder, tally):
            blank = found.text.blank if isinstance(found.text, LongText) else not found.text.strip()
            if not blank:
                yield found
                continue
            tally.empty += 1
            if isinstance(found.text, LongText):
                found.text.remove()


def read_texts(texts: Iterable[Any], options: PrepareOptions, tally: Tally) -> Iterator[Found]:
    """Read texts that are given as they are; the number of a text is its line.

    Raises:
        DataError: One of them is no text.

    """
    tally.lines.append(0)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise DataError(f"text number {number} is {type(text).__name__}, not str; decode it first")
        decoded = clean(text, f"text number {number}", options.errors)
        tally.lines[0] = number
        if decoded.text.strip():
            yield Found(decoded.text, 0, number, decoded.damaged)
        else:
            tally.empty += 1


def _read_slice(
    part: Slice, number: int, options: PrepareOptions, folder: Path, tally: Tally
) -> Iterator[Found]:
    kind = format_of(part.path)
    if is_jsonl(part.path):
        yield from _from_jsonl(part, number, options, tally)
    elif kind is None or (kind.name == "JSON" and not looks_like_array(part.path)):
        cutter = Cutter(options.separator, folder, options.seed)
        for piece in cutter.cut(read_text_chunks(part.path, options.errors)):
            yield Found(piece.text, number, piece.line, piece.damaged)
    else:
        rows = _parquet(part, options) if kind.name == "Parquet" else kind.read(part.path, options.errors)
        yield from _from_rows(rows, number, options, tally)


def _from_jsonl(part: Slice, number: int, options: PrepareOptions, tally: Tally) -> Iterator[Found]:
    for line, where, text, damaged in _lines(part, options):
        tally.lines[number] = line
        if not text or text.isspace():
            continue
        try:
            fields = parse_object(text, where)
            decoded = clean(need_str(fields, options.text_field, where, _REMEDY), where, options.errors)
        except DataError as error:
            if options.bad_rows == "refuse":
                raise DataError(_in_file(str(error), part, line)) from None
            tally.bad(number, line, _in_file(str(error), part, line))
            continue
        yield Found(decoded.text, number, line, damaged or decoded.damaged)


_REMEDY = "name the field with text_field (--text-field)"


def _from_rows(rows: Iterator[Row], number: int, options: PrepareOptions, tally: Tally) -> Iterator[Found]:
    for row in rows:
        tally.lines[number] = row.line
        try:
            text = need_str(row.fields, options.text_field, row.where, _REMEDY)
        except DataError as error:
            if options.bad_rows == "refuse":
                raise
            tally.bad(number, row.line, str(error))
            continue
        decoded = clean(text, row.where, options.errors)
        yield Found(decoded.text, number, row.line, row.damaged or decoded.damaged)


def _lines(part: Slice, options: PrepareOptions) -> Iterator[tuple[int, str, str, bool]]:
    """Give the lines of JSON Lines: number in the part, place for messages, text, damage."""
    if part.begin is None or part.end is None:
        for line, decoded in read_lines(part.path, options.errors):
            yield line, f"{part.path}:{line}", decoded.text, decoded.damaged
        return
    with open_bytes(part.path) as file:
        at = part.begin
        if at:
            file.seek(at - 1)
            at += len(file.readline()) - 1  # the line that is on its way there is the part's before
        line = 0
        while at < part.end and (raw := file.readline()):
            line += 1
            where = f"{part.path}:{_HERE}"
            try:
                decoded = decode(raw.removesuffix(b"\n"), where, options.errors, base=at)
            except DataError as error:
                raise DataError(_in_file(str(error), part, line)) from None
            yield line, where, decoded.text.removesuffix("\r"), decoded.damaged
            at += len(raw)


_HERE = "\0line\0"
"""Stands for a line whose number is not known yet, and is only counted when it is to be told."""


def _in_file(message: str, part: Slice, line: int) -> str:
    if _HERE not in message:
        return message
    before = 0
    with part.path.open("rb") as file:
        left = part.begin or 0
        while left and (chunk := file.read(min(left, 1 << 20))):
            before += chunk.count(b"\n")
            left -= len(chunk)
        file.seek(max(0, (part.begin or 0) - 1))
        broken_off = part.begin and file.read(1) != b"\n"
    return message.replace(_HERE, str(before + line + bool(broken_off)))


def _parquet(part: Slice, options: PrepareOptions) -> Iterator[Row]:
    """Give the rows of some row groups with nothing but the text, numbered from 1 in these."""
    parquet = need_module("pyarrow.parquet", f"{part.path}: reading Parquet")
    number = 0
    try:
        with parquet.ParquetFile(part.path) as file:
            names = file.schema_arrow.names
            if options.text_field not in names:
                need_str(dict.fromkeys(names), options.text_field, f"{part.path}:1", _REMEDY)
            groups = None if part.begin is None else list(range(part.begin, part.end or 0))
            batches = file.iter_batches(batch_size=1024, row_groups=groups, columns=[options.text_field])
            for batch in batches:
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield Row({options.text_field: value}, str(part.path), number)
    except DataError:
        raise
    except (ValueError, OSError, NotImplementedError, KeyError) as error:
        raise DataError(
            f"{part.path}: not readable as Parquet after {number} rows ({first_line(error)}); fetch the file again"
        ) from error
