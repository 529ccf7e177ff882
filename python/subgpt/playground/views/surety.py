"""How sure a model was of each token that it wrote: its own probabilities, before all rules of sampling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subgpt.playground.views.bars import piece_of
from subgpt.tokenizer.prefixes import entry_prefixes
from subgpt.tokenizer.segments import shared_spans

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

    Found = tuple[float, list[tuple[int, float]]]


@dataclass(frozen=True)
class Sure:
    """A piece of a text: what it was worth to the model, and what it would have said instead.

    Attributes:
        text: The characters of one token, or of several that share a character.
        probability: Of all its tokens, one after the other.
        others: The most probable tokens in the place of the first one, with their probabilities.

    """

    text: str
    probability: float
    others: Sequence[tuple[str, float]]


def sure_pieces(tokenizer: "Tokenizer", ids: Sequence[int], found: "Sequence[Found]") -> list[Sure]:
    """Cut a text of `ids` into pieces. found: for each its log probability, and the most probable ids with theirs."""
    entries = entry_prefixes(tokenizer).entries
    raw = [entries[id] or piece_of(tokenizer, id).encode() if id < len(entries) else b"" for id in ids]
    pieces = []
    for first, last in shared_spans(raw).tolist():
        text = b"".join(raw[first:last]).decode("utf-8", "replace")
        probability = math.exp(sum(logprob for logprob, _ in found[first:last]))
        others = [(piece_of(tokenizer, id), math.exp(logprob)) for id, logprob in found[first][1]]
        pieces.append(Sure(text, probability, others))
    return pieces
