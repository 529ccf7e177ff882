"""What the rules of sampling make of the distribution over the next token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.evaluation.next_tokens import Distribution, check_count, distribution_of, token_text
from subgpt.generation.generate import sampling_probs
from subgpt.generation.prompt import prompt_ids
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT, Ids
    from subgpt.tokenizer import Tokenizer


class ReshapedToken(NamedTuple):
    """A candidate: its text, its id, its probability by the model, and that with which it is drawn."""

    text: str
    id: int
    before: float
    after: float


@dataclass(frozen=True)
class Reshaped:
    """The model's own distribution, what is drawn from, and the most probable tokens of either.

    tokens: most probable before first.
    """

    before: Distribution
    after: Distribution
    tokens: tuple[ReshapedToken, ...]


def reshaped_distribution(
    model: "GPT", tokenizer: "Tokenizer", prompt: str, k: int = 10, **options: Any
) -> Reshaped:
    """Compare the distribution over the token after `prompt` before and after the rules in `options`.

    options: those of `sampling_probs`: temperature, top_k, top_p, min_p, repetition_penalty, do_sample.
    """
    check_count(k, "reshaped_distribution")
    check_fit(model, tokenizer, "reshaped_distribution")
    ids = prompt_ids(tokenizer, prompt)
    return reshape(tokenizer, model.native.last_logits(ids), ids, k, **options)


def reshape(
    tokenizer: "Tokenizer", logits: npt.NDArray[np.float32], ids: "Ids", k: int, **options: Any
) -> Reshaped:
    """Compare what `logits` (vocab_size,) say of the token after `ids` before and after the rules in `options`."""
    before, after = sampling_probs(logits), sampling_probs(logits, context=ids, **options)
    best = {
        int(i) for probs in (before, after) for i in np.argsort(-probs, kind="stable")[:k] if probs[i] > 0
    }
    rows = [ReshapedToken(token_text(tokenizer, i), i, float(before[i]), float(after[i])) for i in best]
    rows.sort(key=lambda row: (-row.before, row.id))
    return Reshaped(distribution_of(tokenizer, before, k), distribution_of(tokenizer, after, k), tuple(rows))
