"""Examples to ids, with an exact mask of what is trained.

Every segment is tokenized on its own. Tokenized as one text, the last characters of the prompt and the first
of the answer could share a token, and no mask could part them; and when the model is used, the prompt is
tokenized alone as well, because the answer is not there yet. So the border between tokens is the border
between segments, by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt.data.documents import Origin
from subgpt.data.instruct import Example
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

END_WITHOUT_EOT = "\n"
"""Ends an answer where the tokenizer has no end-of-text id: generation must have something to stop at."""

_BATCH = 4096


@dataclass(frozen=True, slots=True, eq=False)
class TokenExample:
    """An example as the model reads it.

    Attributes:
        ids: uint32 (n,).
        trained: bool (n,): True for the tokens of answers and the end after each; False for all that is
            shown.
        origin: Where it stands.

    """

    ids: npt.NDArray[np.uint32]
    trained: npt.NDArray[np.bool_]
    origin: Origin

    def __len__(self) -> int:
        return len(self.ids)


def tokenize_examples(examples: Sequence[Example], tok: Tokenizer) -> list[TokenExample]:
    """Tokenize examples, each segment on its own.

    After every trained segment comes the end-of-text id, trained too, or a newline if the tokenizer has no
    such id. An example that begins with its answer gets the end-of-text id (as after a document before it) in
    front, since the first token of a row is never a target.

    Raises:
        DataError: An example without a single token to train on; with its file and line.

    """
    tokenized: list[TokenExample] = []
    for first in range(0, len(examples), _BATCH):
        part = examples[first : first + _BATCH]
        texts = [_text(s.text, s.trained, tok) for e in part for s in e.segments]
        ids, offsets = tok.encode_batch(texts)
        pieces = iter(np.split(ids.astype(np.uint32, copy=False), np.asarray(offsets, dtype=np.int64)[1:-1]))
        tokenized += (_join(e, [next(pieces) for _ in e.segments], tok) for e in part)
    return tokenized


def preview(example: TokenExample, tok: Tokenizer) -> str:
    r"""Show what is masked and what is trained, one line for each stretch of either, as the ids decode.

    Returns:
        Lines such as ``masked    9 | 'Question: Is it?\nAnswer:'`` and ``trained   4 | ' It
        is.<|endoftext|>'``, with the number of tokens.

    """
    borders = np.flatnonzero(np.diff(example.trained)) + 1
    lines = []
    for ids, trained in zip(np.split(example.ids, borders), np.split(example.trained, borders), strict=True):
        if len(ids):
            what = "trained" if trained[0] else "masked "
            lines.append(f"{what} {len(ids):4} | {tok.decode(ids)!r}")
    return "\n".join(lines)


def _text(text: str, trained: bool, tok: Tokenizer) -> str:
    return text + END_WITHOUT_EOT if trained and tok.eot_id is None else text


def _join(example: Example, pieces: list[npt.NDArray[np.uint32]], tok: Tokenizer) -> TokenExample:
    eot = np.array([] if tok.eot_id is None else [tok.eot_id], dtype=np.uint32)
    parts: list[npt.NDArray[np.uint32]] = []
    trained: list[npt.NDArray[np.bool_]] = []
    for segment, piece in zip(example.segments, pieces, strict=True):
        if segment.trained and not sum(map(len, parts)):
            parts.append(eot)
            trained.append(np.zeros(len(eot), dtype=bool))
        whole = np.concatenate([piece, eot]) if segment.trained else piece
        parts.append(whole)
        trained.append(np.full(len(whole), segment.trained))
    ids, mask = np.concatenate(parts), np.concatenate(trained)
    if int(ids.max(initial=0)) >= tok.vocab_size:
        raise DataError(
            f"the tokenizer gave id {int(ids.max())}, beyond its {tok.vocab_size} entries; is its file whole?"
        )
    if not mask[1:].any():
        raise DataError(
            f"{example.origin}: no token is left to train on; give it an answer, or remove the line"
        )
    return TokenExample(ids, mask, example.origin)
