"""Near duplicates: documents that share most of their runs of five words (MinHash and locality-sensitive hashing).

A signature keeps, for each of 128 random orders of all shingles, the first shingle of the document; the share of
equal places in two signatures estimates the Jaccard similarity of their sets, with a standard deviation of at most
0.044. Signatures are cut into bands, and documents with an equal band are compared: there are as many bands as make a
pair at the threshold be met with at least 90 %.

Source: Broder, "On the resemblance and containment of documents", 1997. The signatures are made by `rensa`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from subgpt.errors import MissingExtraError

PERMUTATIONS = 128
SHINGLE_WORDS = 5
_SEED = 1
_MET = 0.9


def need_minhash() -> Any:
    """Import the library that makes signatures.

    Raises:
        MissingExtraError: It is not installed; the message has the line to type.

    """
    try:
        return importlib.import_module("rensa")
    except ImportError as error:
        raise MissingExtraError('near_duplicates needs rensa; pip install "subgpt[dedup]"') from error


class Signer:
    """Makes signatures of texts."""

    def __init__(self) -> None:
        self._rensa = need_minhash()

    def sign(self, blocks: Iterable[str]) -> npt.NDArray[np.uint32]:
        """Give the signature of a text that comes in blocks, uint32 (PERMUTATIONS,)."""
        made = self._rensa.RMinHash(num_perm=PERMUTATIONS, seed=_SEED)
        words: list[str] = []
        whole = True
        for block in blocks:
            words += block.split()
            if len(words) >= SHINGLE_WORDS:
                made.update(
                    [" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1)]
                )
                words, whole = words[-SHINGLE_WORDS + 1 :], False
        if whole:
            made.update([" ".join(words)])
        return np.array(made.digest(), dtype=np.uint32)


def bands_for(threshold: float) -> tuple[int, int]:
    """Choose bands and rows: the fewest bands by which a pair at the threshold is met with 90 %.

    >>> bands_for(0.8), bands_for(1.0)
    ((16, 8), (1, 128))
    """
    for rows in range(PERMUTATIONS, 0, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** bands >= _MET:
            return bands, rows
    return PERMUTATIONS, 1


def first_of_similar(
    signatures: npt.NDArray[np.uint32],
    looked_at: npt.NDArray[np.bool_],
    threshold: float,
    progress: Callable[[str, int, int], None],
) -> npt.NDArray[np.int64]:
    """For each document, the first one that stays and is at least so similar; its own number if there is none.

    Args:
        signatures: uint32 (documents, PERMUTATIONS).
        looked_at: Those that are there; others are like themselves alone.
        threshold: The least share of equal places in two signatures.
        progress: Called with documents that were gone through.

    """
    bands, rows = bands_for(threshold)
    first = np.arange(len(signatures), dtype=np.int64)
    keys = np.ascontiguousarray(signatures[:, : bands * rows]).reshape(len(signatures), bands, rows)
    buckets: list[dict[bytes, list[int]]] = [{} for _ in range(bands)]
    for document in np.flatnonzero(looked_at).tolist():
        own = [keys[document, band].tobytes() for band in range(bands)]
        others = sorted(
            {other for key, bucket in zip(own, buckets, strict=True) for other in bucket.get(key, ())}
        )
        if others:
            shares = (signatures[others] == signatures[document]).mean(axis=1)
            like = np.flatnonzero(shares >= threshold)
            if len(like):
                first[document] = others[int(like[0])]
                continue  # it goes, so that nothing is compared with it
        for key, bucket in zip(own, buckets, strict=True):
            bucket.setdefault(key, []).append(document)
        if document % 1024 == 0:
            progress("comparing", document, len(signatures))
    return first
