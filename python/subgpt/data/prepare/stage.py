"""A unit to ids on the disk, in parts that are there whole or not at all: what a preparation goes on from.

A part is a token shard and, beside it, what has to be known of its documents. The latter is written last: it says
that the part is finished. When the last part is, the unit's own file says so, with what was passed over. A unit that
was broken off is read again, and what its parts have is skipped.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.data.corpus import BATCH_CHARS, BATCH_DOCUMENTS, encode_rows
from subgpt.data.prepare.hashing import HASH_BYTES, Hashes, hash_text
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.reading import Found, Tally
from subgpt.data.prepare.similar import Signer
from subgpt.data.prepare.texts import LongText
from subgpt.data.shards import id_dtype, read_shard, writing

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

PART_BYTES = 64 << 20
LONG_SHARD_TOKENS = 1 << 24

STAGED = np.dtype(
    [
        ("low", "<u8"),
        ("high", "<u8"),
        ("side", "<f8"),
        ("tokens", "<u8"),
        ("bytes", "<u8"),
        ("slice", "<u4"),
        ("line", "<u4"),
        ("damaged", "u1"),
    ]
)
"""A document of a part: the halves of its hash, its place in [0, 1), its ids, bytes, slice and line, and damage."""

Records: TypeAlias = npt.NDArray[np.void]
Told: TypeAlias = Callable[[int], None]


class Staging:
    """The names of the files of a preparation that is under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Take away what a process left that was killed in the middle of something."""
        for pattern in ("text-*.txt", "ids-*", ".subgpt-*.tmp"):
            for path in self.folder.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def begun(self) -> bool:
        """Tell whether there is anything to go on from: a part, or a unit without any."""
        return any(self.folder.glob("*.npy")) or any(self.folder.glob("[0-9]*.json"))

    def ids(self, unit: int, part: int) -> Path:
        """Where the ids of a part are."""
        return self.folder / f"{unit:06d}-{part:05d}.bin"

    def documents(self, unit: int, part: int) -> Path:
        """Where the documents of a part are."""
        return self.folder / f"{unit:06d}-{part:05d}.npy"

    def signatures(self, unit: int, part: int) -> Path:
        """Where the signatures of its documents are."""
        return self.folder / f"{unit:06d}-{part:05d}.sig.npy"

    def done(self, unit: int) -> Path:
        """What is there once all parts of a unit are."""
        return self.folder / f"{unit:06d}.json"

    def parts(self, unit: int) -> int:
        """Count the finished parts of a unit."""
        part = 0
        while self.documents(unit, part).exists():
            part += 1
        return part


def stage_unit(
    staging: Staging,
    unit: int,
    found: Iterable[Found],
    tally: Tally,
    tok: Tokenizer,
    options: PrepareOptions,
    told: Told,
) -> None:
    """Bring the documents of a unit to ids, and write them in parts; what was written before is skipped.

    Args:
        staging: Where to.
        unit: The number of the unit.
        found: Its documents, from the first.
        tally: What was passed over, complete when `found` is at its end.
        tok: The tokenizer.
        options: How.
        told: Called with the size of the documents that were encoded or skipped: the UTF-8 bytes of one that lies on
            the disk, the characters of one in memory.

    Raises:
        OutputError: The disk is full.
        DataError: As for reading.

    """
    finished = staging.parts(unit)
    before = sum(len(read_records(staging.documents(unit, part))) for part in range(finished))
    documents = iter(found)
    for document in islice(documents, before):
        told(_size(document.text))
        if isinstance(document.text, LongText):
            document.text.remove()
    writer = _Parts(staging, unit, finished, tok, options)
    for batch in _batches(documents):
        writer.take(batch)
        told(sum(_size(document.text) for document in batch))
    writer.flush()
    summary = {
        "parts": writer.part,
        "empty": tally.empty,
        "bad_rows": sorted(tally.bad_rows.items()),
        "named": tally.named,
        "lines": tally.lines,
    }
    _core.write_atomic(str(staging.done(unit)), json.dumps(summary).encode())


def _size(text: str | LongText) -> int:
    return text.size if isinstance(text, LongText) else len(text)


def _batches(documents: Iterator[Found]) -> Iterator[list[Found]]:
    """Gather documents for one call of the tokenizer; a long one comes alone."""
    batch: list[Found] = []
    chars = 0
    for document in documents:
        if isinstance(document.text, LongText):
            if batch:
                yield batch
            yield [document]
            batch, chars = [], 0
            continue
        batch.append(document)
        chars += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


class _Parts:
    """Gathers encoded documents and writes a part when there are enough."""

    def __init__(
        self, staging: Staging, unit: int, part: int, tok: Tokenizer, options: PrepareOptions
    ) -> None:
        self.part = part
        self._staging, self._unit, self._tok, self._seed = staging, unit, tok, options.seed
        self._dtype = id_dtype(tok.vocab_size)
        self._signer = None if options.near_duplicates is None else Signer()
        self._clear()

    def _clear(self) -> None:
        self._ids: list[npt.NDArray[Any]] = []
        self._records: list[Records] = []
        self._signatures: list[npt.NDArray[np.uint32]] = []
        self._bytes = 0

    def take(self, batch: list[Found]) -> None:
        """Encode documents."""
        first = batch[0].text
        if isinstance(first, LongText):
            self.flush()
            try:
                self._take_long(batch[0], first)
            finally:
                first.remove()
            return
        texts = [document.text for document in batch if isinstance(document.text, str)]
        ids, lengths = encode_rows(texts, self._tok, ordinary=True)
        hashes = [hash_text(text, self._seed) for text in texts]
        self._ids.append(ids.astype(self._dtype))
        self._records.append(_records(batch, hashes, lengths))
        if self._signer is not None:
            self._signatures += [self._signer.sign([text]) for text in texts]
        self._bytes += sum(size for _, _, size in hashes)
        if self._bytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered as a part, if anything was."""
        if not self._records:
            return
        with writing(self._staging.ids(self._unit, self.part), self._dtype, self._tok.fingerprint) as out:
            for ids in self._ids:
                out.append(ids)
        self._finish(np.concatenate(self._records))

    def _take_long(self, document: Found, text: LongText) -> None:
        """Encode a text that is too long to be held: the tokenizer reads it from the disk, block by block."""
        hashes = text.close()
        folder = Path(mkdtemp(prefix="ids-", dir=self._staging.folder))
        try:
            shards = self._tok.encode_file(
                text.path, folder, shard_tokens=LONG_SHARD_TOKENS, disallowed_special=(), errors="replace"
            )
            with writing(self._staging.ids(self._unit, self.part), self._dtype, self._tok.fingerprint) as out:
                for shard in shards:
                    out.append(read_shard(shard))
                if self._tok.eot_id is not None:
                    out.append(np.array([self._tok.eot_id]))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self._signer is not None:
            self._signatures.append(self._signer.sign(text.blocks()))
        self._finish(_records([document], [hashes], np.array([out.count])))

    def _finish(self, records: Records) -> None:
        if self._signer is not None:
            _save(self._staging.signatures(self._unit, self.part), np.stack(self._signatures))
        _save(self._staging.documents(self._unit, self.part), records)
        self.part += 1
        self._clear()


def _records(batch: list[Found], hashes: list[Hashes], lengths: npt.NDArray[np.int64]) -> Records:
    records = np.zeros(len(batch), STAGED)
    digests = np.frombuffer(b"".join(found.digest for found in hashes), "<u8").reshape(-1, HASH_BYTES // 8)
    records["low"], records["high"] = digests[:, 0], digests[:, 1]
    records["side"] = [found.side for found in hashes]
    records["bytes"] = [found.size for found in hashes]
    records["tokens"] = lengths
    records["slice"] = [document.slice for document in batch]
    records["line"] = [min(document.line, (1 << 32) - 1) for document in batch]
    records["damaged"] = [document.damaged for document in batch]
    return records


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    _core.write_atomic(str(path), buffer.getvalue())


def read_records(path: Path) -> npt.NDArray[Any]:
    """Read what `stage_unit` wrote of documents."""
    records: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return records
