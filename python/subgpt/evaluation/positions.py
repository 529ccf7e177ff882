"""What a model expects at every position of a text, and where what really follows stands in it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from subgpt.evaluation.next_tokens import (
    Distribution,
    NextToken,
    check_count,
    distribution_of,
    token_text,
)
from subgpt.generation.generate import sampling_probs
from subgpt.generation.prompt import prompt_ids
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Position:
    """A token of a text and what the model expects after it.

    position: counted from 0. text, id: the token there. expected: the distribution over the next token. following: the
    token that does follow, with its probability; rank: its place among all tokens, 1 the most probable. Both are None
    at the end of the text.
    """

    position: int
    text: str
    id: int
    expected: Distribution
    following: NextToken | None
    rank: int | None


def position_distributions(
    model: "GPT", tokenizer: "Tokenizer", text: str, k: int = 3, **options: Any
) -> list[Position]:
    """List what the model expects after each token of `text`, with the `k` most probable tokens.

    options: as for `next_distribution`. Of a text longer than block_size the last block_size tokens are looked at.
    """
    check_count(k, "position_distributions")
    check_fit(model, tokenizer, "position_distributions")
    ids = prompt_ids(tokenizer, text)
    first = max(0, len(ids) - model.config.block_size)
    positions = []
    for i, logits in enumerate(model.forward(ids[first:]), first):
        probs = sampling_probs(logits, context=ids[: i + 1], **options)
        following, rank = None, None
        if i + 1 < len(ids):
            token = int(ids[i + 1])
            following = NextToken(token_text(tokenizer, token), token, float(probs[token]))
            rank = _rank(probs, token)
        here = int(ids[i])
        expected = distribution_of(tokenizer, probs, k)
        positions.append(Position(i, token_text(tokenizer, here), here, expected, following, rank))
    return positions


def _rank(probs: np.ndarray, token: int) -> int:
    """Place of `token` among all, the most probable first and equal ones by id: 1 is the best."""
    return int(np.count_nonzero(probs > probs[token]) + np.count_nonzero(probs[:token] == probs[token])) + 1
