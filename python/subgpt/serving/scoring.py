"""Prompts as tokens, and what a model thinks of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from subgpt.generation.complete import prompt_found
from subgpt.generation.prompt import prompt_ids
from subgpt.serving.errors import ApiError
from subgpt.serving.models import Served
from subgpt.serving.tokens import Known

if TYPE_CHECKING:
    import numpy.typing as npt

_BEYOND_BLOCK = 2048


def prompt_tokens(
    served: Served,
    prompt: str | Sequence[int],
    most: int,
    param: str = "prompt",
    *,
    parse_special: bool = True,
) -> list[int]:
    """Give the ids of a prompt, which are those that the engine reads; ApiError for ones that cannot be."""
    if isinstance(prompt, str):
        ids: list[int] = prompt_ids(served.tokenizer, prompt, parse_special=parse_special).tolist()
    else:
        ids = list(prompt)
        check_ids(served, ids, param)
        if not ids:
            raise ApiError(400, f"{param}: a list of token ids must have one at least", param=param)
    check_length(len(ids), most, param)
    return ids


def hidden_tokens(served: Served, prompt: str | Sequence[int], *, parse_special: bool) -> int:
    """Count the first tokens of a prompt that are no part of its text.

    They are those that the tokenizer puts before every text, such as <s>, if the text does not have them itself (which
    it has where their names are read as these tokens), or the one that stands for no text at all.
    """
    before, _ = served.tokenizer.template
    if not isinstance(prompt, str):
        return 0
    if not prompt:
        return max(1, len(before))
    own = parse_special and prompt.startswith(served.tokenizer.decode(before))
    return 0 if own else len(before)


def check_ids(served: Served, ids: Sequence[int], param: str) -> None:
    """Raise ApiError for ids that are no tokens of a model."""
    size = served.tokenizer.vocab_size
    if ids and max(ids) >= size:
        raise ApiError(
            400, f"{param}: {max(ids)} is no token of this model; ids go up to {size - 1}", param=param
        )


def check_length(tokens: int, most: int, param: str) -> None:
    """Raise ApiError for a prompt of too many tokens."""
    if tokens > most:
        raise ApiError(
            400,
            f"{param}: {tokens} tokens are more than {most}, which are taken here; shorten it",
            param=param,
            code="context_length_exceeded",
        )


def score_prompt(served: Served, ids: Sequence[int], top: int) -> tuple[Known, ...]:
    """Look up what the model thought of each token of a prompt, but of the first.

    What is beyond the model's block takes a step for each token, which nobody can interrupt: ApiError for too many.
    """
    check_length(len(ids), served.model.config.block_size + _BEYOND_BLOCK, "prompt")
    array: npt.NDArray[np.uint32] = np.array(ids, dtype=np.uint32)
    return ((ids[0], None), *zip(ids[1:], prompt_found(served.model, array, top), strict=True))
