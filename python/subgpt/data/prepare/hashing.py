"""What a text is recognised by, and which side it is on."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

HASH_BYTES = 16
"""Of a billion different documents, two have the same 128 bits with a probability of 1e-21."""


class Hashes(NamedTuple):
    """A text's hash, its place in [0, 1) that decides about its side, and its UTF-8 bytes."""

    digest: bytes
    side: float
    size: int


class TextHash:
    """Hashes a text that comes in pieces of UTF-8.

    The place is that of `subgpt.data.split.text_hash`, so that a document is on the same side whether it is
    prepared or read as it is.

    >>> from subgpt.data.split import text_hash
    >>> hashes = TextHash(7)
    >>> hashes.update(b"so much ")
    >>> hashes.update(b"depends")
    >>> hashes.result().side == text_hash("so much depends", 7), hashes.result().size
    (True, 15)
    """

    def __init__(self, seed: int) -> None:
        key = (seed & ((1 << 64) - 1)).to_bytes(8, "little")
        self._text = hashlib.blake2b(digest_size=HASH_BYTES)
        self._side = hashlib.blake2b(digest_size=8, key=key)
        self._size = 0

    def update(self, data: bytes) -> None:
        """Go on with more of the text."""
        self._text.update(data)
        self._side.update(data)
        self._size += len(data)

    def result(self) -> Hashes:
        """Give the hashes of what there was so far."""
        side = (int.from_bytes(self._side.digest(), "little") >> 11) * 2.0**-53
        return Hashes(self._text.digest(), side, self._size)


def hash_text(text: str, seed: int) -> Hashes:
    """Hash a whole text."""
    hashes = TextHash(seed)
    hashes.update(text.encode("utf-8"))
    return hashes.result()
