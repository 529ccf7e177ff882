"""Segments of examples to ids, so that a border between segments is a border between tokens.

Every segment is tokenized on its own, with one exception: tokenizers that put a space before each text, as those of
SentencePiece do, would put one before each segment, where the model never saw one. With these a conversation that a
template wrote is tokenized as one text and cut, if no token crosses a border.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt.data.segments import Segment

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

    Pieces = list[npt.NDArray[np.uint32]]

END_WITHOUT_EOT = "\n"
"""Ends an answer where the tokenizer has no end-of-text id: generation must have something to stop at."""


def encode_segments(examples: Sequence[Sequence[Segment]], tok: Tokenizer) -> list[Pieces]:
    """Turn the segments of examples into ids, uint32 (n,) for each segment."""
    whole: dict[int, Pieces] = {}
    if any(segment.markup for segments in examples for segment in segments) and _puts_space_first(tok):
        for i, segments in enumerate(examples):
            cut = _cut_whole(segments, tok) if all(segment.markup for segment in segments) else None
            if cut is not None:
                whole[i] = cut
    rest = [segment for i, segments in enumerate(examples) if i not in whole for segment in segments]
    alone = iter(_encode_alone(rest, tok))
    return [whole.get(i) or [next(alone) for _ in segments] for i, segments in enumerate(examples)]


def _encode_alone(segments: Sequence[Segment], tok: Tokenizer) -> Pieces:
    """Turn segments into ids, those with markup and those without in one call each."""
    pieces: dict[int, npt.NDArray[np.uint32]] = {}
    for markup in (False, True):
        places = [i for i, segment in enumerate(segments) if segment.markup == markup]
        if places:
            texts = [_text(segments[i], tok) for i in places]
            allowed = "all" if markup else ()
            ids, offsets = tok.encode_batch(texts, allowed_special=allowed, disallowed_special=())
            cut = np.split(ids.astype(np.uint32, copy=False), np.asarray(offsets, dtype=np.int64)[1:-1])
            pieces.update(zip(places, cut, strict=True))
    return [pieces[i] for i in range(len(segments))]


def _text(segment: Segment, tok: Tokenizer) -> str:
    return segment.text + END_WITHOUT_EOT if segment.ends and tok.eot_id is None else segment.text


def _puts_space_first(tok: Tokenizer) -> bool:
    """Tell whether a text at the beginning has other tokens than further on."""
    first, later = tok.encode_ordinary("a"), tok.encode_ordinary("\na")
    return bool(later[-len(first) :].tolist() != first.tolist())


def _cut_whole(segments: Sequence[Segment], tok: Tokenizer) -> Pieces | None:
    """Tokenize segments as one text, and cut it; None if a token crosses a border."""
    text = "".join(segment.text for segment in segments)
    located = tok.encode_with_offsets(text, allowed_special="all", disallowed_special=())
    starts, ends = located.chars[:, 0], located.chars[:, 1]
    borders = list(accumulate(len(segment.text) for segment in segments))[:-1]
    places = [int(np.searchsorted(ends, border, side="right")) for border in borders]
    crossed = any(
        place < len(starts) and starts[place] < border for place, border in zip(places, borders, strict=True)
    )
    return None if crossed else np.split(located.ids, places)
