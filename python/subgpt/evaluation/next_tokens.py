"""What a model expects next: the most probable tokens with their probabilities."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from subgpt.errors import InvalidValueError
from subgpt.generation.prompt import prompt_ids
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


class NextToken(NamedTuple):
    """A candidate: its text (U+FFFD where it is a part of a character), its id, its probability in [0, 1]."""

    text: str
    id: int
    probability: float


def next_tokens(model: "GPT", tokenizer: "Tokenizer", prompt: str, k: int = 10) -> list[NextToken]:
    """Find the `k` most probable tokens after `prompt`, most probable first; equal ones by id."""
    if isinstance(k, bool) or not hasattr(k, "__index__") or k < 1:
        raise InvalidValueError(f"next_tokens: k is {k!r}; give an integer of 1 or more")
    check_fit(model, tokenizer, "next_tokens")
    probs = model.next_token_probs(prompt_ids(tokenizer, prompt))  # (vocab_size,)
    best = np.argsort(-probs, kind="stable")[:k]
    return [NextToken(_text(tokenizer, int(i)), int(i), float(probs[i])) for i in best]


def _text(tokenizer: "Tokenizer", token: int) -> str:
    """Decode one id; those between the tokenizer's vocabulary and the model's stand for no text."""
    return tokenizer.decode([token]) if token < tokenizer.vocab_size else ""
