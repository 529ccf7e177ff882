"""Which documents stay, on which side they are, and their shards: what only the whole can decide.

Everything here is a function of the staged documents in their order; how they were cut into units and parts, and by
how many processes they were read, leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt.data.prepare.stage import Records
from subgpt.data.shards import DOCUMENT, INDEX_MAGIC, ShardWriter, id_dtype, read_shard, writing

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

I64Array: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Progress: TypeAlias = Callable[[str, int, int], None]

SIDES = ("train", "val")


def first_of_equals(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> I64Array:
    """For each document, the number of the first one with the same hash: its own if there was none before.

    >>> low = np.array([7, 8, 7, 7], dtype=np.uint64)
    >>> first_of_equals(low, np.zeros(4, dtype=np.uint64)).tolist()
    [0, 1, 0, 0]

    """
    order = np.lexsort((high, low))  # stable: of equals, the first comes first
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (low[order][1:] != low[order][:-1]) | (high[order][1:] != high[order][:-1])
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    return first


@dataclass(slots=True)
class Shard:
    """A shard that was written: the names of its files, ids, documents, and both checksums."""

    file: str
    tokens: int
    documents: int
    checksum: str
    index_checksum: str


@dataclass(slots=True)
class Side:
    """One side of a data set: its shards, and the UTF-8 bytes of their text."""

    shards: list[Shard] = field(default_factory=list)
    text_bytes: int = 0

    @property
    def tokens(self) -> int:
        """Ids on this side."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def documents(self) -> int:
        """Documents on this side; one that was divided counts on both."""
        return sum(shard.documents for shard in self.shards)


def write_shards(
    folder: Path,
    parts: Sequence[Path],
    records: Sequence[Records],
    kept: BoolArray,
    val_tail: I64Array,
    index: npt.NDArray[np.void],
    tok: Tokenizer,
    *,
    shard_tokens: int,
    progress: Progress,
) -> dict[str, Side]:
    """Copy the documents that stay into the shards of their sides.

    Args:
        folder: Where to.
        parts: The files with staged ids, in order.
        records: The documents of each.
        kept: Which documents stay, of all.
        val_tail: How many ids at the end of each that stays are validation, int64 (kept,).
        index: The record `DOCUMENT` of each that stays, without its end.
        tok: The tokenizer.
        shard_tokens: Ids in a shard, at most, but for a document that is longer.
        progress: Called with ids that were gone through.

    """
    total = sum(int(rows["tokens"].sum()) for rows in records)
    with ExitStack() as stack:
        writers = {name: stack.enter_context(_SideWriter(folder, name, tok, shard_tokens)) for name in SIDES}
        document = stayed = done = 0
        for path, rows in zip(parts, records, strict=True):
            ids = read_shard(path, fingerprint=tok.fingerprint)
            lengths = rows["tokens"].astype(np.int64)
            ends = np.cumsum(lengths)
            stays = kept[document : document + len(rows)]
            count = int(stays.sum())
            tails, facts = val_tail[stayed : stayed + count], index[stayed : stayed + count]
            begin, end = (ends - lengths)[stays], ends[stays]
            heads, tailed = facts.copy(), facts.copy()
            tailed["bytes"] = _tail_bytes(ids, end - tails, end, facts["bytes"], begin, tok)
            heads["bytes"] -= tailed["bytes"]
            writers["train"].take(ids, begin, end - tails, heads)
            writers["val"].take(ids, end - tails, end, tailed)
            document, stayed, done = document + len(rows), stayed + count, done + len(ids)
            progress("writing", done, total)
    return {name: writer.side for name, writer in writers.items()}


def _tail_bytes(
    ids: npt.NDArray[Any], cut: I64Array, end: I64Array, whole: Any, begin: I64Array, tok: Tokenizer
) -> npt.NDArray[np.uint64]:
    """Count the UTF-8 bytes behind the cut in each document; of one that is divided, only decoding tells them."""
    counts = np.where(cut > begin, 0, whole).astype(np.uint64)
    for document in np.flatnonzero((cut > begin) & (cut < end)).tolist():
        tail = ids[int(cut[document]) : int(end[document])]
        text = tail if tok.eot_id is None else tail[tail != tok.eot_id]
        counts[document] = min(int(whole[document]), len(tok.decode_bytes(text.astype(np.uint32))))
    return counts


class _SideWriter:
    """Writes the shards of one side, each closed when the next document would be too many ids for it."""

    def __init__(self, folder: Path, name: str, tok: Tokenizer, shard_tokens: int) -> None:
        self.side = Side()
        self._folder, self._name, self._tok, self._most = folder, name, tok, shard_tokens
        self._dtype = id_dtype(tok.vocab_size)
        self._stack = ExitStack()
        self._ids: ShardWriter | None = None
        self._index: ShardWriter | None = None

    def __enter__(self) -> _SideWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self._close()
        else:
            self._stack.__exit__(kind, error, trace)

    def take(
        self, ids: npt.NDArray[Any], begin: I64Array, end: I64Array, facts: npt.NDArray[np.void]
    ) -> None:
        """Write the stretches of `ids`, one a document; empty ones are none."""
        some = end > begin
        begin, end, facts = begin[some], end[some], facts[some]
        done = 0
        sums = np.cumsum(end - begin)
        while done < len(begin):
            room = self._most - (self._ids.count if self._ids else 0)
            before = int(sums[done - 1]) if done else 0
            fit = int(np.searchsorted(sums, before + room, side="right"))
            if fit == done and self._ids is not None and self._ids.count:
                self._close()
                continue
            fit = max(fit, done + 1)
            self._write(ids, begin[done:fit], end[done:fit], facts[done:fit])
            done = fit

    def _write(
        self, ids: npt.NDArray[Any], begin: I64Array, end: I64Array, facts: npt.NDArray[np.void]
    ) -> None:
        if self._ids is None or self._index is None:
            self._open()
        assert self._ids is not None
        assert self._index is not None
        rows = np.zeros(len(begin), DOCUMENT)
        for name in ("bytes", "file", "line"):
            rows[name] = facts[name]
        rows["end"] = self._ids.count + np.cumsum(end - begin)
        self._index.append(rows)
        self.side.text_bytes += int(rows["bytes"].sum())
        # Neighbours that follow each other in the source are one stretch.
        cuts = np.flatnonzero(begin[1:] != end[:-1]) + 1
        for first, last in zip([0, *cuts.tolist()], [*cuts.tolist(), len(begin)], strict=True):
            self._ids.append(ids[int(begin[first]) : int(end[last - 1])])

    def _path(self, ending: str) -> Path:
        return self._folder / f"{self._name}-{len(self.side.shards):05d}.{ending}"

    def _open(self) -> None:
        fingerprint = self._tok.fingerprint
        self._index = self._stack.enter_context(
            writing(self._path("idx"), DOCUMENT, fingerprint, INDEX_MAGIC)
        )
        self._ids = self._stack.enter_context(writing(self._path("bin"), self._dtype, fingerprint))

    def _close(self) -> None:
        if self._ids is None or self._index is None:
            return
        name = self._path("bin").name
        self._stack.close()
        self.side.shards.append(
            Shard(name, self._ids.count, self._index.count, self._ids.checksum, self._index.checksum)
        )
        self._ids = self._index = None
