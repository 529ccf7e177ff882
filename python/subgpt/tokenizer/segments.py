"""A text as its tokens cut it, ready to be looked at: runs of whole characters, each with its tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt.errors import TokenizerError

if TYPE_CHECKING:
    from subgpt.tokenizer.arguments import Specials
    from subgpt.tokenizer.tokenizer import Tokenizer

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Token:
    """One token of a text.

    Attributes:
        id: Its id.
        bytes: The bytes of the text that it stands for.
        kind: ``"ordinary"``, ``"special"``, or ``"unknown"`` for text without an entry.

    """

    id: int
    bytes: bytes
    kind: str = "ordinary"


@dataclass(frozen=True)
class Segment:
    """The smallest run of whole characters that tokens end with: one token, or several that share a character.

    Attributes:
        text: The characters.
        tokens: The tokens that stand for them.

    """

    text: str
    tokens: tuple[Token, ...]


def segment(tokenizer: Tokenizer, text: str, *, allowed_special: Specials = ()) -> list[Segment]:
    """Cut ``text`` as ``tokenizer`` does, with tokens that share a character kept together.

    Where tokens have no places in the text, since the tokenizer leaves out bytes that it has no token for, they stand
    for the bytes that their ids decode to.

    Args:
        tokenizer: The tokenizer.
        text: The text; a lone surrogate counts as U+FFFD.
        allowed_special: Special tokens to recognise, or ``"all"``; the others are ordinary text.

    >>> from subgpt import Tokenizer
    >>> tok = Tokenizer.train(["x"], vocab_size=257)
    >>> [(s.text, [t.id for t in s.tokens]) for s in segment(tok, "né")]
    [('n', [110]), ('é', [195, 169])]

    """
    clean = _SURROGATE.sub("\ufffd", text)
    try:
        ids, places, chars = tokenizer.encode_with_offsets(
            clean, allowed_special=allowed_special, disallowed_special=()
        )
    except TokenizerError:
        ids = tokenizer.encode(clean, allowed_special=allowed_special, disallowed_special=())
        pieces = [tokenizer.decode_bytes([id]) for id in ids.tolist()]
        spans = shared_spans(pieces)
        texts = [b"".join(pieces[first:last]).decode("utf-8", "replace") for first, last in spans.tolist()]
    else:
        raw = clean.encode()
        pieces = [raw[start:end] for start, end in places.tolist()]
        spans = _shared_places(chars)
        texts = [clean[chars[first, 0] : chars[first:last, 1].max()] for first, last in spans.tolist()]
    specials, unknown = set(tokenizer.special_tokens.values()), tokenizer.unk_id
    tokens = [
        Token(id, piece, "unknown" if id == unknown else "special" if id in specials else "ordinary")
        for id, piece in zip(ids.tolist(), pieces, strict=True)
    ]
    return [
        Segment(shown, tuple(tokens[first:last]))
        for shown, (first, last) in zip(texts, spans.tolist(), strict=True)
    ]


def shared_spans(pieces: list[bytes]) -> npt.NDArray[np.int64]:
    r"""Find the runs of pieces between which no character is split.

    Args:
        pieces: The bytes of consecutive tokens, UTF-8 together.

    Returns:
        Start and end of each run, shape (runs, 2), int64.

    >>> shared_spans([b"a", b"\xc3", b"\xa9", b"b"]).tolist()
    [[0, 1], [1, 3], [3, 4]]

    """
    # A piece begins a run unless its first byte goes on with a character (10xxxxxx).
    starts = [i for i, piece in enumerate(pieces) if i == 0 or not piece or piece[0] & 0xC0 != 0x80]
    return _runs(starts, len(pieces))


def _shared_places(chars: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Find the runs of tokens that have no character in common; ``chars`` (n, 2) are those that each has a byte of.

    One that was several before it was normalized, or becomes several, may be split over tokens that have all of it.
    """
    ends = np.maximum.accumulate(chars[:, 1])
    return _runs([i for i in range(len(chars)) if i == 0 or chars[i, 0] >= ends[i - 1]], len(chars))


def _runs(starts: list[int], count: int) -> npt.NDArray[np.int64]:
    """Give start and end of runs of `count` things, shape (runs, 2), int64."""
    bounds = np.array([*starts, count], dtype=np.int64)
    return np.stack([bounds[:-1], bounds[1:]], axis=1)
