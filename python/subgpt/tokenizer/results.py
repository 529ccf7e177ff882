"""What a tokenizer gives besides arrays and text: ids with their places, and text as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt import _core

if TYPE_CHECKING:
    from subgpt.tokenizer.tokenizer import Tokenizer


class Located(NamedTuple):
    """Ids with their places in the text, as `Tokenizer.encode_with_offsets` gives them."""

    ids: npt.NDArray[np.uint32]
    bytes: npt.NDArray[np.uint64]
    chars: npt.NDArray[np.uint64]


class DecodeStream:
    """Ids to text one by one: a character that is not complete yet is held back.

    >>> from subgpt import Tokenizer
    >>> tok = Tokenizer.train(["x"], vocab_size=257)
    >>> stream = tok.decode_stream()
    >>> [stream.push(int(id)) for id in tok.encode("né")], stream.flush()
    (['n', '', 'é'], '')
    """

    __slots__ = ("_native",)

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._native = _core.DecodeStream(tokenizer._native)

    def push(self, id: int) -> str:
        """Add one id; return the text that is now complete."""
        return self._native.push([id])

    def push_all(self, ids: npt.NDArray[np.uint32]) -> str:
        """Add several ids (n,); return the text that is now complete."""
        return self._native.push(ids)

    def flush(self) -> str:
        """End the text: return what was held back, with U+FFFD for a character that is incomplete."""
        return self._native.flush()
