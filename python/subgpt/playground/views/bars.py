"""The distribution over the next token as bars: the model's own, and what the rules of sampling make of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subgpt.evaluation.next_tokens import token_text
from subgpt.evaluation.reshaped import Reshaped, reshape
from subgpt.generation.generate import sampling_probs
from subgpt.generation.prompt import prompt_ids
from subgpt.tokenizer.prefixes import entry_prefixes

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

SHOWN = 20
"""Bars before the one that stands for all the rest."""


@dataclass(frozen=True)
class Bar:
    """One bar: a token's text and id (None: all the rest), its probability by the model and after the rules."""

    text: str
    id: int | None
    before: float
    after: float


@dataclass(frozen=True)
class Bars:
    """The most probable tokens by the model, best first, then the rest together; entropies in bits."""

    bars: Sequence[Bar]
    entropy: float
    entropy_after: float
    left: int

    @property
    def top(self) -> float:
        """The largest probability of a token: the length of a full bar."""
        return max((max(bar.before, bar.after) for bar in self.bars if bar.id is not None), default=1.0)

    @property
    def summary(self) -> str:
        """How sure the model is, in one line."""
        return (
            f"The model is as unsure as among {2**self.entropy:,.1f} equally probable tokens (entropy "
            f"{self.entropy:.2f} bits); the rules leave {_count(self.left)} ({self.entropy_after:.2f} bits)."
        )


def _count(tokens: int) -> str:
    return f"{tokens:,} token{'' if tokens == 1 else 's'}"


class Place:
    """A text as ids, with the logits of what follows it: the model is asked once for each text."""

    def __init__(self, model: "GPT", tokenizer: "Tokenizer", ids: Sequence[int]) -> None:
        self.ids = np.array(ids, dtype=np.uint32)
        self.logits: npt.NDArray[np.float32] = model.native.last_logits(self.ids)
        self._tokenizer = tokenizer

    def bars(self, options: dict[str, Any]) -> Bars:
        """Give the bars under these rules."""
        left = int(np.count_nonzero(self._probs(options)))
        return bars_of(
            self._tokenizer, reshape(self._tokenizer, self.logits, self.ids, SHOWN, **options), left
        )

    def draw(self, options: dict[str, Any], seed: int) -> int:
        """Draw the next id under these rules."""
        probs = self._probs(options)
        return int(np.random.default_rng(seed).choice(len(probs), p=probs / probs.sum()))

    def _probs(self, options: dict[str, Any]) -> npt.NDArray[np.float64]:
        return sampling_probs(self.logits, context=self.ids, **options)


def bars_of(tokenizer: "Tokenizer", reshaped: Reshaped, left: int) -> Bars:
    """Make bars of the tokens that the model finds most probable, and one of the rest. left: tokens after the rules."""
    best = [Bar(piece_of(tokenizer, t.id), t.id, t.before, t.after) for t in reshaped.tokens[:SHOWN]]
    before, after = (
        1 - math.fsum(values) for values in zip(*((b.before, b.after) for b in best), strict=True)
    )
    rest = Bar("all the rest", None, max(0.0, before), max(0.0, after))
    return Bars([*best, rest], reshaped.before.bits, reshaped.after.bits, left)


def ids_of(tokenizer: "Tokenizer", text: str) -> list[int]:
    """Encode a text as the beginning that a model goes on from."""
    return [int(id) for id in prompt_ids(tokenizer, text)]


def text_of(tokenizer: "Tokenizer", ids: Sequence[int]) -> str:
    """Decode ids, without those that the tokenizer puts before every text; those that stand for no text add none."""
    before, _ = tokenizer.template
    rest = ids[len(before) :] if list(ids[: len(before)]) == list(before) else ids
    return tokenizer.decode([id for id in rest if id < tokenizer.vocab_size])


def piece_of(tokenizer: "Tokenizer", id: int) -> str:
    r"""Give what an id stands for inside of a text.

    There it has the space that some tokenizers leave out at the beginning of a text. Bytes that are no character are
    written as \xe2; a special token is its name.
    """
    entries = entry_prefixes(tokenizer).entries
    raw = entries[id] if id < len(entries) else b""
    return raw.decode("utf-8", "backslashreplace") if raw else token_text(tokenizer, id)


def percent(share: float) -> str:
    """Write a probability as a percentage that never claims to be none or all.

    >>> percent(0.25), percent(0.00001), percent(0.0), percent(1.0)
    ('25.0 %', '<0.1 %', '0', '100 %')
    """
    if share == 0:
        return "0"
    if share < 0.001:
        return "<0.1 %"
    return "100 %" if share > 0.9995 else f"{100 * share:.1f} %"
