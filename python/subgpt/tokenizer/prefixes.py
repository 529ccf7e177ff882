"""Which entries of a vocabulary begin with some bytes: a sorted list, searched by halving."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from subgpt.tokenizer.tokenizer import Tokenizer


class EntryPrefixes:
    """The entries of a tokenizer in the order of their bytes; special tokens are none of them.

    Attributes:
        entries: The bytes of each id as they are inside of a text, empty for special tokens and gaps.
        longest: Bytes of the longest entry.

    >>> from subgpt import Tokenizer
    >>> tok = Tokenizer.train(["low lower lowest"], vocab_size=262)
    >>> found = entry_prefixes(tok)
    >>> [tok.decode([id]) for id in found.beginning_with(b" low")], found.has_longer(b" low")
    ([' low', ' lowe'], True)

    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.entries = _entries(tokenizer)
        order = sorted((entry, id) for id, entry in enumerate(self.entries) if entry)
        self._sorted = [entry for entry, _ in order]
        self._ids = np.array([id for _, id in order], dtype=np.uint32)
        self.longest = max(map(len, self._sorted), default=0)

    def beginning_with(self, prefix: bytes) -> npt.NDArray[np.uint32]:
        """Find the ids of the entries that begin with `prefix`, uint32 (n,), in the order of their bytes."""
        first, last = self._range(prefix)
        return self._ids[first:last]

    def has_longer(self, prefix: bytes) -> bool:
        """Tell whether an entry begins with `prefix` and goes on."""
        first, last = self._range(prefix)
        return first < last and len(self._sorted[last - 1]) > len(prefix)

    def _range(self, prefix: bytes) -> tuple[int, int]:
        if not prefix:
            return 0, len(self._sorted)
        after = prefix.rstrip(b"\xff")  # the first bytes in the order that do not begin with the prefix
        first = bisect_left(self._sorted, prefix)
        if not after:
            return first, len(self._sorted)
        return first, bisect_left(self._sorted, after[:-1] + bytes([after[-1] + 1]))


@lru_cache(maxsize=8)
def entry_prefixes(tokenizer: Tokenizer) -> EntryPrefixes:
    """Sort the entries of a tokenizer, once for each that is in use: 0.1 s for GPT-2's."""
    return EntryPrefixes(tokenizer)


def _entries(tokenizer: Tokenizer) -> list[bytes]:
    """Give what each id adds to a text that has begun; nothing for special tokens."""
    silent = set(tokenizer.special_tokens.values())
    added = tokenizer._native.token_bytes()
    return [b"" if id in silent else entry for id, entry in enumerate(added)]
