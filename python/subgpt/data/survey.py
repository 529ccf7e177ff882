"""What is in running text, before a tokenizer or a model learns from it: counted, and what had better be mended.

Everything is read as `prepare_data` reads it, but nothing is refused: what would be is counted and named.
"""

from __future__ import annotations

import heapq
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subgpt.data.decoding import detect
from subgpt.data.formats import BINARY, find_row_files, format_of
from subgpt.data.prepare.hashing import hash_text
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.reading import Found, Tally, read_unit
from subgpt.data.prepare.texts import LongText
from subgpt.data.prepare.units import Slice, size_of
from subgpt.data.reading import bare_name, read_chunks, read_text_chunks
from subgpt.data.shards import read_shard
from subgpt.data.sniff import sniff_kind
from subgpt.data.sources import FileSource
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

LONGEST = 5
NAMED = 5


@dataclass(slots=True)
class Survey:
    """What was found in running text.

    Attributes:
        files: Files, in words, with what was skipped.
        file_bytes: Bytes of the files.
        documents: Documents with something in them.
        empty: Documents of white space.
        text_bytes: UTF-8 bytes of the documents.
        encodings: Files by their encoding.
        scripts: UTF-8 bytes by what they are: letters by script, digits, spaces, punctuation, symbols, control.
        damaged: Documents with bytes that are no text.
        damage: The first such byte of each of some files.
        bad_rows: Rows that are broken or have no text.
        bad: The first of them.
        duplicates: Documents whose text was there before.
        twins: The first of them, with the one before.
        longest: Bytes and place of the longest documents.
        crlf: Documents with line ends of Windows.
        replaced: U+FFFD in the text: what was lost before it came here.
        tokens: Ids, with the end of each document; None without a tokenizer.
        unknown: How many of them are ``<unk>``.

    """

    files: str
    file_bytes: int = 0
    documents: int = 0
    empty: int = 0
    text_bytes: int = 0
    encodings: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    damage: list[str] = field(default_factory=list)
    bad_rows: int = 0
    bad: list[str] = field(default_factory=list)
    duplicates: int = 0
    twins: list[tuple[str, str]] = field(default_factory=list)
    longest: list[tuple[int, str]] = field(default_factory=list)
    crlf: int = 0
    replaced: int = 0
    tokens: int | None = None
    unknown: int = 0

    def to_fix(self) -> list[str]:
        """Say what had better be mended, the worst first; nothing for clean text."""
        lines = []
        if self.bad_rows:
            lines.append(
                f"{_many(self.bad_rows, 'row')} broken or without a text: mend them, or prepare with --bad-rows skip"
            )
        if self.damaged:
            lines.append(
                f"{_many(self.damaged, 'document')} with bytes that are no text: save the files as UTF-8, or pass "
                "--errors replace"
            )
        if self.replaced:
            lines.append(
                f"{self.replaced:,} U+FFFD in the text, for characters that were lost before: read it anew"
            )
        if self.scripts["control"]:
            lines.append(f"{_many(self.scripts['control'], 'byte')} of control characters: is it text?")
        if self.duplicates:
            lines.append(
                f"{_many(self.duplicates, 'document')} that were there before: subgpt data prepare leaves them out"
            )
        if 0 < self.crlf < self.documents:
            lines.append(
                f"{_many(self.crlf, 'document')} with line ends of Windows, the others without: settle on one"
            )
        if self.unknown and self.tokens:
            share = 100 * self.unknown / self.tokens
            lines.append(
                f"{self.unknown:,} tokens ({share:.2g} %) are <unk>: train a tokenizer on this text, or use subwords"
            )
        if self.documents >= 10 and self.longest and self.longest[0][0] > self.text_bytes / 2:
            lines.append("the longest document is more than half of all: is it one?")
        return lines


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def is_running_text(source: FileSource, *, text_field: str = "text") -> bool:
    """Tell whether files hold running text, in rows of any kind as well, or examples with answers.

    Raises:
        MissingFileError, DataError: As for `sniff_kind`.

    """
    try:
        return sniff_kind(source, text_field=text_field).kind == "text"
    except DataError:
        # Tables are examples to fine-tuning; with a column of texts they are none.
        for path in find_row_files(source).files:
            kind = format_of(path)
            row = None if kind is None else next(kind.read(path, "replace"), None)
            if row is not None and not isinstance(row.fields.get(text_field), str):
                raise
        return True


def survey_text(source: FileSource, tok: Tokenizer | None = None, *, text_field: str = "text") -> Survey:
    """Read running text and count what is in it.

    Args:
        source: A path, directory or glob, or a list of these.
        tok: Counts tokens, if given.
        text_field: The key, or column, of the text in rows.

    Memory: a piece of a file, and some hundred bytes a document.

    Raises:
        MissingFileError: A file that was named is not there.
        DataError: A file that cannot be read at all, or no document with any text in it.

    """
    found = find_row_files(source)
    survey = Survey(found.describe(), tokens=None if tok is None else 0)
    seen: dict[bytes, str] = {}
    options = PrepareOptions(text_field=text_field, errors="replace", bad_rows="skip")
    with TemporaryDirectory() as folder:
        for path in found.files:
            _look_at(path, survey, options, Path(folder), seen, tok)
    if not survey.documents:
        raise DataError(
            f"{found.named()}: no document with any text in it ({survey.empty} empty, {survey.bad_rows} bad rows)"
            + (f"; {survey.bad[0]}" if survey.bad else "")
        )
    survey.longest.sort(reverse=True)
    return survey


def _look_at(
    path: Path,
    survey: Survey,
    options: PrepareOptions,
    folder: Path,
    seen: dict[bytes, str],
    tok: Tokenizer | None,
) -> None:
    size, tally, damaged = size_of(path), Tally(), survey.damaged
    survey.file_bytes += size
    if path.is_file() and not bare_name(path).endswith(BINARY):
        survey.encodings[_encoding(path)] += 1
    for document in read_unit((Slice(0, path, None, None, size),), options, folder, tally):
        try:
            _count(document, f"{path}:{document.line}", survey, seen, tok)
        finally:
            if isinstance(document.text, LongText):
                document.text.remove()
    survey.empty += tally.empty
    survey.bad_rows += sum(tally.bad_rows.values())
    survey.bad += [why for _, _, why in tally.named][: NAMED - len(survey.bad)]
    if survey.damaged > damaged and len(survey.damage) < NAMED:
        survey.damage.append(_first_damage(path))


def _count(
    document: Found, place: str, survey: Survey, seen: dict[bytes, str], tok: Tokenizer | None
) -> None:
    text = document.text
    hashes = text.close() if isinstance(text, LongText) else hash_text(text, 0)
    survey.documents += 1
    survey.damaged += document.damaged
    survey.text_bytes += hashes.size
    before = seen.setdefault(hashes.digest, place)
    if before is not place:
        survey.duplicates += 1
        if len(survey.twins) < NAMED:
            survey.twins.append((place, before))
    keep = heapq.heappush if len(survey.longest) < LONGEST else heapq.heappushpop
    keep(survey.longest, (hashes.size, place))
    crlf = False
    for block in text.blocks() if isinstance(text, LongText) else [text]:
        crlf = crlf or "\r\n" in block
        for character, count in Counter(block).items():
            survey.scripts[script_of(character)] += count * len(character.encode("utf-8"))
            survey.replaced += count * (character == "\ufffd" and not document.damaged)
    survey.crlf += crlf
    if tok is not None and survey.tokens is not None:
        ids, unknown = _count_ids(text, tok)
        survey.tokens += ids + (tok.eot_id is not None)
        survey.unknown += unknown


def _count_ids(text: str | LongText, tok: Tokenizer) -> tuple[int, int]:
    """Count the ids of a text, and how many of them are `<unk>`."""
    if isinstance(text, str):
        return _counted([tok.encode_ordinary(text)], tok)
    if tok.unk_id is None:
        return tok.count_file(text.path, disallowed_special=(), errors="replace"), 0
    with TemporaryDirectory(dir=text.path.parent) as folder:
        shards = tok.encode_file(text.path, folder, disallowed_special=(), errors="replace")
        return _counted(map(read_shard, shards), tok)


def _counted(parts: Iterable[npt.NDArray[Any]], tok: Tokenizer) -> tuple[int, int]:
    ids = unknown = 0
    for part in parts:
        ids += len(part)
        unknown += 0 if tok.unk_id is None else int(np.count_nonzero(part == tok.unk_id))
    return ids, unknown


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """Name what a character is: the script of a letter, or its kind.

    >>> [script_of(c) for c in "aжñ字7 ,+"]
    ['latin', 'cyrillic', 'latin', 'cjk', 'digits', 'spaces', 'punctuation', 'symbols']
    >>> script_of(chr(0)), script_of(chr(10))
    ('control', 'spaces')
    """
    kind = unicodedata.category(character)
    if character in "\n\r\t" or kind.startswith("Z"):
        return "spaces"
    if kind.startswith(("L", "M")):
        return unicodedata.name(character, "other letters").split()[0].lower()
    return {"N": "digits", "P": "punctuation", "S": "symbols"}.get(
        kind[0], "control" if kind == "Cc" else "other"
    )


def _encoding(path: Path) -> str:
    encoding, mark = detect(next(read_chunks(path, 4), b""), str(path))
    return encoding.upper().removesuffix("-LE").removesuffix("-BE") + (" with a mark" if mark else "")


def _first_damage(path: Path) -> str:
    """Name the first byte that is no text."""
    try:
        for _ in read_text_chunks(path, "strict"):
            pass
    except DataError as error:
        return str(error).split("; save it", maxsplit=1)[0]
    return f"{path}: half a character (a lone surrogate) in a row"


def shares(counts: Counter[str], most: int = 8) -> Sequence[tuple[str, float]]:
    """Give the largest counts with their shares, in [0, 1].

    >>> shares(Counter(a=3, b=1))
    [('a', 0.75), ('b', 0.25)]
    """
    total = sum(counts.values())
    return [(name, count / total) for name, count in counts.most_common(most)]
