"""Training and validation text, apart from each other, the same way every time.

The side of a document is decided by a hash of its text and the seed. So the order of the files does not
matter, adding documents does not move the others, a larger fraction only moves documents from training to
validation, and two identical documents always land on the same side: nothing that is validated on was trained
on.

That needs documents. One book is one document, and of three documents the hash may send none or two to
validation. Where the sides come out lopsided (either has less than half of its share), the last part of
*every* document is the validation text instead, and identical documents are cut at the same place.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt.errors import ConfigError, DataError

I64Array: TypeAlias = npt.NDArray[np.int64]

MIN_TOKENS = 2
"""The fewest tokens that have anything to predict: one to see and one to guess."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """How the documents were divided.

    Attributes:
        method: ``"document"`` (whole documents), ``"tail"`` (the last part of each) or ``"none"``.
        val_tail: int64 (documents,): how many tokens at the end of each document are validation; 0 or all of
            them when ``method`` is ``"document"``.
        val_fraction: What was asked for.

    """

    method: Literal["document", "tail", "none"]
    val_tail: I64Array
    val_fraction: float

    def describe(self) -> str:
        """One line for the terminal.

        >>> Split("tail", np.array([10]), 0.1).describe()
        'one document: its last 10 % is validation'
        """
        total = len(self.val_tail)
        share = f"{100 * self.val_fraction:.3g} %"
        if self.method == "none":
            return "no validation text was asked for"
        if self.method == "document":
            val = int(np.count_nonzero(self.val_tail))
            return f"by document: {total - val} train, {val} validation"
        if total == 1:
            return f"one document: its last {share} is validation"
        return f"{total} documents, too few to divide whole: the last {share} of each is validation"


def in_validation(text: str, *, val_fraction: float, seed: int) -> bool:
    """Decide on which side a text belongs, from nothing but the text, the seed and the fraction.

    Args:
        text: The document; or the prompt of an example.
        val_fraction: Share of validation, in [0, 1).
        seed: Any integer.

    >>> in_validation("so much depends", val_fraction=0.0, seed=1)
    False

    """
    return text_hash(text, seed) < val_fraction


def text_hash(text: str, seed: int) -> float:
    """Map a text to a number in [0, 1), evenly spread: BLAKE2b keyed with the seed.

    >>> text_hash("a", 1) == text_hash("a", 1) != text_hash("a", 2)
    True
    """
    key = (seed & ((1 << 64) - 1)).to_bytes(8, "little")
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def check_fraction(val_fraction: float) -> None:
    """Refuse a share that is none.

    Raises:
        ConfigError: Not a number in [0, 1).

    >>> check_fraction(1.5)
    Traceback (most recent call last):
    subgpt.errors.ConfigError: val_fraction must be in [0, 1), not 1.5; 0.1 keeps a tenth

    """
    number = isinstance(val_fraction, (int, float)) and not isinstance(val_fraction, bool)
    if not number or not 0 <= val_fraction < 1:
        raise ConfigError(f"val_fraction must be in [0, 1), not {val_fraction!r}; 0.1 keeps a tenth")


def split_documents(sides: Sequence[bool], lengths: I64Array, *, val_fraction: float) -> Split:
    """Divide documents, whole where that comes out evenly, else each at its end.

    Args:
        sides: For each document, what `in_validation` said.
        lengths: int64 (documents,): tokens of each.
        val_fraction: Share of validation, in [0, 1); 0 for none.

    Raises:
        ConfigError: ``val_fraction`` out of range.
        DataError: Too little text to divide at all; the message has both numbers.

    >>> split_documents([False, False, True], np.array([50, 50, 40]), val_fraction=0.3).describe()
    'by document: 2 train, 1 validation'
    >>> split_documents([False], np.array([100]), val_fraction=0.1).val_tail
    array([10])

    """
    check_fraction(val_fraction)
    if val_fraction == 0:
        return Split("none", np.zeros(len(lengths), dtype=np.int64), 0.0)
    whole = np.where(np.asarray(sides, dtype=bool), lengths, 0).astype(np.int64)
    total, val = int(lengths.sum()), int(whole.sum())
    wanted = total * val_fraction
    if val >= max(MIN_TOKENS, wanted / 2) and total - val >= max(MIN_TOKENS, (total - wanted) / 2):
        return Split("document", whole, val_fraction)
    tails = _tails(lengths, val_fraction)
    val = int(tails.sum())
    if val < MIN_TOKENS or total - val < MIN_TOKENS:
        raise DataError(
            f"{total} tokens in {len(lengths)} document{'s' * (len(lengths) != 1)} are too few to keep "
            f"{100 * val_fraction:.3g} % for validation: each side needs at least {MIN_TOKENS} tokens; "
            "give more text, or set val_fraction=0"
        )
    return Split("tail", tails, val_fraction)


def _tails(lengths: I64Array, val_fraction: float) -> I64Array:
    """Tokens at the end of each document; a function of its length alone, so that twins are cut alike."""
    tails = np.floor(lengths * val_fraction + 0.5).astype(np.int64)
    if int(tails.sum()) < MIN_TOKENS:
        least = math.ceil(MIN_TOKENS / max(1, int(np.count_nonzero(lengths == lengths.max()))))
        tails = np.where(lengths == lengths.max(), np.maximum(tails, least), tails)
    kept: I64Array = np.minimum(tails, np.maximum(lengths - 1, 0))
    return kept
