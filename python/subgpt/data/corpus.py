"""Documents to one long row of token ids, and what has to be known about it to judge a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt.data.decoding import Errors, check_errors
from subgpt.data.documents import SEPARATOR, Document, DocumentSource, documents_of, open_source
from subgpt.data.sources import FoundFiles
from subgpt.data.split import MIN_TOKENS, I64Array, Split, check_fraction, in_validation, split_documents
from subgpt.errors import DataError
from subgpt.units import in_bytes

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

U32Array: TypeAlias = npt.NDArray[np.uint32]

BATCH_DOCUMENTS = 1024
BATCH_CHARS = 4 << 20
"""A batch for the tokenizer ends at either: its threads are kept busy, and Ctrl-C is answered soon."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenCorpus:
    """A text as the model reads it.

    Attributes:
        tokens: uint32 (n,): the documents one after the other, each followed by the end-of-text id if there
            is one.
        documents: How many documents have tokens in it.
        text_bytes: Length of the text in UTF-8 bytes, separators not counted: a loss in nats, times the
            tokens it was summed over, divided by ``text_bytes * ln 2``, is the loss in bits per byte, which
            does not depend on the tokenizer.

    """

    tokens: U32Array
    documents: int
    text_bytes: int

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class CorpusSummary:
    """What was read and how it was divided, to be printed before a run.

    Attributes:
        source: Files found and skipped, in words.
        documents: Documents read.
        damaged: Documents in which bytes that are no text were replaced.
        text_bytes: UTF-8 bytes of all of them.
        train_tokens, val_tokens: Tokens on each side.
        split: How it was divided, in words.

    """

    source: str
    documents: int
    damaged: int
    text_bytes: int
    train_tokens: int
    val_tokens: int
    split: str

    def describe(self) -> list[str]:
        """Lines for the terminal."""
        lines = [
            f"{self.source}: {self.documents} documents, {in_bytes(self.text_bytes)} of text",
            f"{self.train_tokens} tokens to train on, {self.val_tokens} to validate on ({self.split})",
        ]
        if self.damaged:
            lines.append(f"{self.damaged} documents had bytes that are no text; U+FFFD stands for them")
        return lines


def load_corpus(
    source: DocumentSource,
    tok: Tokenizer,
    *,
    val_fraction: float = 0.1,
    seed: int = 0,
    text_field: str = "text",
    errors: Errors = "replace",
) -> tuple[TokenCorpus, TokenCorpus, CorpusSummary]:
    """Read, divide and encode a corpus.

    Args:
        source: What `read_documents` takes.
        tok: The tokenizer.
        val_fraction: Share kept for validation, in [0, 1); 0 for none.
        seed: Decides which documents are kept.
        text_field: The key of the text in ``.jsonl`` files.
        errors: ``"replace"`` or ``"strict"``, for bytes that are no text.

    Returns:
        The training and the validation corpus (of 0 tokens for ``val_fraction=0``), and the summary. Memory:
        four bytes a token, twice that for a moment at the end; the text itself is not kept.

    Raises:
        MissingFileError: A file that was named is not there.
        DataError: Nothing to read, a broken file, or too little text to divide.
        ConfigError: ``val_fraction`` or ``errors`` out of range.

    """
    check_errors(errors)
    check_fraction(val_fraction)
    opened = open_source(source)
    documents = documents_of(opened, text_field=text_field, errors=errors, separator=SEPARATOR)
    encoded = _encode(documents, tok, lambda text: in_validation(text, val_fraction=val_fraction, seed=seed))
    try:
        split = split_documents(encoded.sides, encoded.lengths, val_fraction=val_fraction)
    except DataError as error:
        if isinstance(opened, FoundFiles):
            raise DataError(f"{opened.named()}: {error}") from None
        raise
    train, val = _divide(encoded, split, tok)
    summary = CorpusSummary(
        source=opened.describe() if isinstance(opened, FoundFiles) else "texts in memory",
        documents=len(encoded.sides),
        damaged=encoded.damaged,
        text_bytes=int(encoded.text_bytes.sum()),
        train_tokens=len(train),
        val_tokens=len(val),
        split=split.describe(),
    )
    return train, val, summary


def encode_corpus(documents: Iterable[Document], tok: Tokenizer) -> TokenCorpus:
    """Encode documents into one corpus, undivided; for evaluation.

    Raises:
        DataError: Fewer than two tokens, so that nothing is to be predicted.

    """
    encoded = _encode(documents, tok, lambda _text: False)
    if len(encoded.tokens) < MIN_TOKENS:
        raise DataError(
            f"the text has {len(encoded.tokens)} token(s); predicting anything takes at least {MIN_TOKENS}"
        )
    return TokenCorpus(encoded.tokens, len(encoded.sides), int(encoded.text_bytes.sum()))


@dataclass(slots=True)
class _Encoded:
    """All documents encoded, with the length in tokens (the end-of-text id included) and bytes of each."""

    tokens: U32Array
    lengths: I64Array
    text_bytes: I64Array
    sides: list[bool] = field(default_factory=list)
    damaged: int = 0


def _encode(documents: Iterable[Document], tok: Tokenizer, side_of: Callable[[str], bool]) -> _Encoded:
    rows: list[U32Array] = []
    lengths: list[I64Array] = []
    text_bytes: list[int] = []
    sides: list[bool] = []
    damaged = 0
    for batch in _batches(documents):
        ids, row_lengths = encode_rows([d.text for d in batch], tok)
        rows.append(ids)
        lengths.append(row_lengths)
        text_bytes += (len(d.text.encode("utf-8")) for d in batch)
        sides += (side_of(d.text) for d in batch)
        damaged += sum(d.damaged for d in batch)
    return _Encoded(
        tokens=np.concatenate(rows) if rows else np.empty(0, dtype=np.uint32),
        lengths=np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int64),
        text_bytes=np.array(text_bytes, dtype=np.int64),
        sides=sides,
        damaged=damaged,
    )


def encode_rows(texts: list[str], tok: Tokenizer, *, ordinary: bool = False) -> tuple[U32Array, I64Array]:
    """Encode texts in one call, each followed by the end-of-text id if the tokenizer has one.

    Args:
        texts: The texts.
        tok: The tokenizer.
        ordinary: Take the names of special tokens in a text as plain text; otherwise they are refused.

    Returns:
        ids uint32 (n,), and the length of each row in it, int64 (texts,).

    Raises:
        DataError: The tokenizer gave an id beyond its own vocabulary.

    """
    ids, offsets = tok.encode_batch(texts, disallowed_special=() if ordinary else "all")
    ends = np.asarray(offsets, dtype=np.int64)[1:]
    if ids.size and int(ids.max()) >= tok.vocab_size:
        raise DataError(
            f"the tokenizer gave id {int(ids.max())}, but its vocabulary has {tok.vocab_size} entries; "
            "its file is damaged, or was put together from two"
        )
    lengths = np.diff(ends, prepend=0)
    if tok.eot_id is None:
        return ids.astype(np.uint32, copy=False), lengths
    return np.insert(ids, ends, tok.eot_id).astype(np.uint32, copy=False), lengths + 1


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    chars = 0
    for document in documents:
        batch.append(document)
        chars += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _divide(encoded: _Encoded, split: Split, tok: Tokenizer) -> tuple[TokenCorpus, TokenCorpus]:
    if split.method == "none":
        train = TokenCorpus(encoded.tokens, len(encoded.lengths), int(encoded.text_bytes.sum()))
        return train, TokenCorpus(np.empty(0, dtype=np.uint32), 0, 0)
    # Marks +1 where validation begins and -1 where it ends; their running sum is 1 inside.
    ends = np.cumsum(encoded.lengths)
    steps = np.zeros(len(encoded.tokens) + 1, dtype=np.int8)
    np.add.at(steps, ends - split.val_tail, 1)
    np.add.at(steps, ends, -1)
    inside = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    train_tokens, val_tokens = encoded.tokens[~inside], encoded.tokens[inside]
    total = int(encoded.text_bytes.sum())
    if split.method == "document":
        val_bytes = int(encoded.text_bytes[split.val_tail > 0].sum())
    else:
        val_bytes = min(total, _count_bytes(val_tokens, tok))
    train_documents = int(np.count_nonzero(split.val_tail < encoded.lengths))
    val_documents = int(np.count_nonzero(split.val_tail))
    return (
        TokenCorpus(train_tokens, train_documents, total - val_bytes),
        TokenCorpus(val_tokens, val_documents, val_bytes),
    )


def _count_bytes(tokens: U32Array, tok: Tokenizer) -> int:
    """UTF-8 bytes that tokens stand for; a tail begins inside a document, so only decoding can tell."""
    text = tokens if tok.eot_id is None else tokens[tokens != tok.eot_id]
    return len(tok.decode_bytes(text))
