"""What a model expects next: the most probable tokens with their probabilities, and how sure it is of them."""

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.errors import InvalidValueError
from subgpt.generation.generate import sampling_probs
from subgpt.generation.prompt import prompt_ids
from subgpt.model.fit import check_fit
from subgpt.visible import show_text

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


class NextToken(NamedTuple):
    """A candidate: its text (U+FFFD where it is a part of a character), its id, its probability in [0, 1]."""

    text: str
    id: int
    probability: float


@dataclass(frozen=True)
class Distribution:
    """The distribution over the next token: its most probable tokens, best first, and its entropy in nats.

    The entropy is the mean surprise at what comes if the model is right: 0 where one token has all probability,
    ln(vocab_size) where all are alike.

    >>> even = Distribution((), math.log(8))
    >>> round(even.bits, 6), round(even.perplexity, 6)
    (3.0, 8.0)
    """

    tokens: tuple[NextToken, ...]
    entropy: float

    @property
    def bits(self) -> float:
        """The entropy in bits: yes-or-no questions that it takes to find out what comes."""
        return self.entropy / math.log(2)

    @property
    def perplexity(self) -> float:
        """Among how many equally probable tokens the model would be as unsure: e to the entropy."""
        return math.exp(self.entropy)

    @property
    def shown(self) -> float:
        """How much probability `tokens` hold together."""
        return math.fsum(token.probability for token in self.tokens)

    def _repr_html_(self) -> str:
        """Show a table with bars, for notebooks; of characters, which every viewer of notebooks keeps."""
        top = max((token.probability for token in self.tokens), default=0.0) or 1.0
        rows = "".join(
            f"<tr><td><code>{escape(show_text(token.text))}</code></td><td>{token.id}</td>"
            f'<td>{token.probability:.1%}</td><td align="left" style="text-align: left">'
            f"{'█' * round(20 * token.probability / top)}</td></tr>"
            for token in self.tokens
        )
        return (
            f"<table><tr><th>token</th><th>id</th><th>probability</th><th></th></tr>{rows}</table>"
            f"<p>entropy {self.entropy:.3f} nats, {self.bits:.3f} bits; {self.shown:.1%} shown</p>"
        )


def next_tokens(model: "GPT", tokenizer: "Tokenizer", prompt: str, k: int = 10) -> list[NextToken]:
    """Find the `k` most probable tokens after `prompt`, the best first; equal ones by id, impossible ones never."""
    check_count(k, "next_tokens")
    check_fit(model, tokenizer, "next_tokens")
    return list(distribution_of(tokenizer, model.next_token_probs(prompt_ids(tokenizer, prompt)), k).tokens)


def next_distribution(
    model: "GPT", tokenizer: "Tokenizer", prompt: str, k: int = 10, **options: Any
) -> Distribution:
    """Give the distribution over the token after `prompt`, with its `k` most probable tokens.

    options: those of `sampling_probs` (temperature, top_k, top_p, min_p, repetition_penalty, do_sample), which reshape
    it; without any it is the model's own. Past block_size, the last block_size ids count.
    """
    check_count(k, "next_distribution")
    check_fit(model, tokenizer, "next_distribution")
    ids = prompt_ids(tokenizer, prompt)
    if not options:
        return distribution_of(tokenizer, model.next_token_probs(ids), k)
    logits = model.native.last_logits(ids)
    return distribution_of(tokenizer, sampling_probs(logits, context=ids, **options), k)


def distribution_of(tokenizer: "Tokenizer", probs: npt.NDArray[np.floating[Any]], k: int) -> Distribution:
    """Describe probabilities (vocab_size,); of equal ones the smaller id comes first, what is impossible never."""
    possible = probs[probs > 0].astype(np.float64)
    best = np.argsort(-probs, kind="stable")[: min(k, len(possible))]
    tokens = tuple(NextToken(token_text(tokenizer, int(i)), int(i), float(probs[i])) for i in best)
    return Distribution(tokens, max(0.0, -float(possible @ np.log(possible))))


def token_text(tokenizer: "Tokenizer", token: int) -> str:
    """Decode one id; those between the tokenizer's vocabulary and the model's stand for no text."""
    return tokenizer.decode([token]) if token < tokenizer.vocab_size else ""


def check_count(k: int, verb: str) -> None:
    """Raise InvalidValueError, with `verb` in front, unless `k` is an integer of 1 or more."""
    if isinstance(k, bool) or not hasattr(k, "__index__") or k < 1:
        raise InvalidValueError(f"{verb}: k is {k!r}; give an integer of 1 or more")
