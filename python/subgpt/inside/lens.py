"""The logit lens on a text: the tokens that each layer would predict.

nostalgebraist, "interpreting GPT: the logit lens", LessWrong, 2020.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from subgpt.evaluation.next_tokens import NextToken, check_count, token_text
from subgpt.generation.prompt import prompt_ids
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT, Ids
    from subgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Lens:
    """What each layer would predict at each position of a text.

    first: number of the first position. texts, ids: the tokens of the text. layers: (n_layer + 1) x T x k candidates,
    best first: `layers[0]` from the embeddings alone, `layers[l]` after l blocks, `layers[-1]` what the model predicts.
    """

    first: int
    texts: tuple[str, ...]
    ids: tuple[int, ...]
    layers: tuple[tuple[tuple[NextToken, ...], ...], ...]


def lens_on(model: "GPT", tokenizer: "Tokenizer", text: str, k: int = 1) -> Lens:
    """Find the `k` most probable tokens by each layer at each position of `text`.

    Of a text longer than block_size the last block_size tokens are looked at.
    """
    check_count(k, "lens_on")
    check_fit(model, tokenizer, "lens_on")
    ids = prompt_ids(tokenizer, text)
    first = max(0, len(ids) - model.config.block_size)
    return lens_of(model, tokenizer, ids[first:], k, first=first)


def lens_of(model: "GPT", tokenizer: "Tokenizer", ids: "Ids", k: int = 1, *, first: int = 0) -> Lens:
    """Find the same for `ids` (T,), block_size at most; first: the number of the first of them in their text."""
    ids = np.asarray(ids)
    best, probs = model.logit_lens(ids, k=min(k, model.config.vocab_size))
    texts = {i: token_text(tokenizer, i) for i in {*ids.tolist(), *best.ravel().tolist()}}
    layers = tuple(
        tuple(
            tuple(NextToken(texts[i], i, p) for i, p in zip(*at, strict=True))
            for at in zip(*layer, strict=True)
        )
        for layer in zip(best.tolist(), probs.tolist(), strict=True)
    )
    return Lens(first, tuple(texts[i] for i in ids.tolist()), tuple(ids.tolist()), layers)
