"""From staged units to a finished data set: what stays, on which side, and the account of it all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subgpt.data.prepare.manifest import dataset_fingerprint, write_manifest
from subgpt.data.prepare.merge import BoolArray, I64Array, Side, first_of_equals, write_shards
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.similar import first_of_similar
from subgpt.data.prepare.stage import Records, Staging, read_records
from subgpt.data.prepare.units import Unit
from subgpt.data.shards import DOCUMENT, id_dtype
from subgpt.data.split import split_documents
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

NAMED = 20
"""So many removed documents and bad rows are named; all are counted, for every file."""


@dataclass(frozen=True, slots=True, eq=False)
class _Documents:
    """All documents that were staged, in order: the parts they are in, and of each its file and line there."""

    parts: list[Path]
    signatures: list[Path]
    records: list[Records]
    file: npt.NDArray[np.uint32]
    line: npt.NDArray[np.uint32]
    empty: int
    bad_rows: npt.NDArray[np.int64]
    named: list[str]

    def column(self, name: str) -> npt.NDArray[Any]:
        """Give a column of all records."""
        return np.concatenate([rows[name] for rows in self.records])


def finish(
    folder: Path,
    staging: Staging,
    count: int,
    units: Sequence[Unit],
    sources: Sequence[tuple[str, int]] | None,
    tok: Tokenizer,
    options: PrepareOptions,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Write the shards of what stays, and `dataset.json`; give what that says.

    Args:
        folder: The directory of the set.
        staging: Where the units are.
        count: How many.
        units: What they are made of; empty where they are texts in memory.
        sources: The name and the bytes of every file; None for texts in memory.
        tok: The tokenizer.
        options: How.
        progress: Called with what is done, how far, of how much.

    Raises:
        DataError: No document, or too little text to divide.

    """
    found = _gather(staging, count, units, 1 if sources is None else len(sources))
    if not found.records:
        bad = int(found.bad_rows.sum())
        raise DataError(
            f"no document with any text in it ({found.empty:,} empty, {bad:,} bad rows); give text to learn from"
        )
    exact, similar = _duplicates(found, options, progress)
    own = np.arange(len(found.file))
    kept = (exact == own) & (similar == own)
    lengths = found.column("tokens").astype(np.int64)
    sides = found.column("side") < options.val_fraction
    split = split_documents(sides[kept], lengths[kept], val_fraction=options.val_fraction)
    index = np.zeros(int(kept.sum()), DOCUMENT)
    index["bytes"] = found.column("bytes")[kept]
    index["file"], index["line"] = found.file[kept], found.line[kept]
    written = write_shards(
        folder,
        found.parts,
        found.records,
        kept,
        split.val_tail,
        index,
        tok,
        shard_tokens=options.shard_tokens,
        progress=progress,
    )
    tok.save(folder)
    made = _account(found, exact, similar, kept, written, sources, tok, options, split.describe())
    return write_manifest(folder, made)


def _gather(staging: Staging, count: int, units: Sequence[Unit], files: int) -> _Documents:
    parts: list[Path] = []
    signatures: list[Path] = []
    records: list[Records] = []
    file, line = [np.zeros(0, np.uint32)], [np.zeros(0, np.uint32)]
    empty, bad_rows = 0, np.zeros(files, np.int64)
    named: list[str] = []
    begins = np.zeros(files, dtype=np.int64)  # lines of each file that were in slices before
    for unit in range(count):
        summary = json.loads(staging.done(unit).read_bytes())
        numbers = np.array([part.file for part in units[unit]] if units else [0])
        first = []
        for number, lines in zip(numbers.tolist(), summary["lines"], strict=True):
            first.append(begins[number])
            begins[number] += lines
        empty += summary["empty"]
        for slice, bad in summary["bad_rows"]:
            bad_rows[numbers[slice]] += bad
        named.extend(why for _, _, why in summary["named"][: NAMED - len(named)])
        for part in range(summary["parts"]):
            rows = read_records(staging.documents(unit, part))
            parts.append(staging.ids(unit, part))
            signatures.append(staging.signatures(unit, part))
            records.append(rows)
            file.append(numbers[rows["slice"]].astype(np.uint32))
            line.append((np.array(first)[rows["slice"]] + rows["line"]).astype(np.uint32))
    return _Documents(
        parts, signatures, records, np.concatenate(file), np.concatenate(line), empty, bad_rows, named
    )


def _duplicates(
    found: _Documents, options: PrepareOptions, progress: Callable[[str, int, int], None]
) -> tuple[I64Array, I64Array]:
    """For each document, the one before it that is the same, and the one that is nearly so; itself if there is none."""
    own = np.arange(len(found.file), dtype=np.int64)
    exact = own
    if options.exact_duplicates:
        exact = first_of_equals(found.column("low"), found.column("high"))
    if options.near_duplicates is None:
        return exact, own
    signatures = np.concatenate([read_records(path) for path in found.signatures])
    return exact, first_of_similar(signatures, exact == own, options.near_duplicates, progress)


def _account(
    found: _Documents,
    exact: I64Array,
    similar: I64Array,
    kept: BoolArray,
    written: dict[str, Side],
    sources: Sequence[tuple[str, int]] | None,
    tok: Tokenizer,
    options: PrepareOptions,
    split: str,
) -> dict[str, Any]:
    own = np.arange(len(kept))
    removed = {"exact_duplicates": exact != own, "near_duplicates": similar != own}
    sides = {name: _side(side) for name, side in written.items()}
    files = [("texts in memory", 0)] if sources is None else sources
    return {
        "tokenizer": {
            "fingerprint": tok.fingerprint,
            "vocab_size": tok.vocab_size,
            "eot_id": tok.eot_id,
        },
        "dtype": id_dtype(tok.vocab_size).name,
        "fingerprint": dataset_fingerprint(tok.fingerprint, sides),
        "options": options.to_dict(),
        "documents": {
            "read": len(kept),
            "kept": int(kept.sum()),
            **{name: int(gone.sum()) for name, gone in removed.items()},
            "empty": found.empty,
            "bad_rows": int(found.bad_rows.sum()),
            "damaged": int(found.column("damaged")[kept].sum()),
        },
        "split": split,
        **sides,
        "sources": _per_file(found, files, kept, removed),
        "removed": [
            {"what": what, "document": _place(found, files, at), "like": _place(found, files, int(like[at]))}
            for (what, gone), like in zip(removed.items(), (exact, similar), strict=True)
            for at in np.flatnonzero(gone)[:NAMED].tolist()
        ],
        "bad": found.named,
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "documents": side.documents,
        "tokens": side.tokens,
        "text_bytes": side.text_bytes,
        "shards": [asdict(shard) for shard in side.shards],
    }


def _per_file(
    found: _Documents, files: Sequence[tuple[str, int]], kept: BoolArray, removed: dict[str, BoolArray]
) -> list[dict[str, Any]]:
    """Give the row of each file: its name and bytes, and what of it was kept and removed."""

    def count(chosen: BoolArray, weights: npt.NDArray[Any] | None = None) -> list[int]:
        counts = np.bincount(found.file[chosen], None if weights is None else weights[chosen], len(files))
        return [int(n) for n in counts.tolist()]

    columns = {
        "documents": count(kept),
        "tokens": count(kept, found.column("tokens").astype(np.float64)),
        **{name: count(gone) for name, gone in removed.items()},
        "bad_rows": found.bad_rows.tolist(),
    }
    return [
        {"file": name, "bytes": size, **{key: column[i] for key, column in columns.items()}}
        for i, (name, size) in enumerate(files)
    ]


def _place(found: _Documents, files: Sequence[tuple[str, int]], document: int) -> str:
    return f"{files[int(found.file[document])][0]}:{int(found.line[document])}"
