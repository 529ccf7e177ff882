"""How probable a model thinks a text that follows another, or a text as a whole: what evaluation harnesses ask for.

Log probabilities are natural logarithms under the model's own distribution, before all rules of sampling.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from subgpt.data.loader import IGNORED
from subgpt.errors import InvalidValueError
from subgpt.generation.complete import prompt_found

if TYPE_CHECKING:
    from subgpt.generation.writing import Found
    from subgpt.model.gpt import GPT


class Scored(NamedTuple):
    """What a model thinks of a continuation.

    Attributes:
        logprob: The logarithm of its probability after its context, in nats.
        is_greedy: Whether each of its tokens is the most probable one in its place.

    """

    logprob: float
    is_greedy: bool


def score_continuations(
    model: "GPT", pairs: Sequence[tuple[Sequence[int], Sequence[int]]], block_size: int | None = None
) -> Iterator[tuple[int, Scored]]:
    """Score continuations after their contexts; yields the number of a pair in `pairs`, and what was found of it.

    Pairs that differ in the last token only, as the letters of a multiple choice do, take one pass together. Of a pair
    that is too long the last block_size + 1 tokens count, as lm-eval cuts it, with one window for all of them.

    Args:
        model: The model.
        pairs: Token ids of a context, at least one, and of what follows it.
        block_size: Tokens that the model may see; its own if not given.

    Raises:
        InvalidValueError: A context is empty, or a continuation is longer than the block.

    >>> import subgpt
    >>> model = subgpt.GPT(subgpt.GPTConfig(11, block_size=8, n_layer=1, n_head=2, n_embd=8), seed=1)
    >>> found = dict(score_continuations(model, [([1, 2], [token]) for token in range(11)]))
    >>> round(float(sum(np.exp(one.logprob) for one in found.values())), 4)
    1.0
    >>> sum(one.is_greedy for one in found.values())
    1

    """
    block = model.config.block_size if block_size is None else block_size
    groups: dict[tuple[int, ...], list[tuple[int, int, int]]] = defaultdict(list)
    for number, (context, continuation) in enumerate(pairs):
        if not len(context) or len(continuation) > block:
            raise InvalidValueError(
                f"score_continuations: pair {number} has {len(context)} tokens of context and {len(continuation)} "
                f"that follow; give at least one before and at most block_size = {block} behind"
            )
        whole = (*context, *continuation)[-block - 1 :]
        if continuation:
            groups[whole[:-1]].append((number, whole[-1], len(continuation)))
        else:
            yield number, Scored(0.0, True)
    for before, last in groups.items():
        yield from _score_group(model, before, last)


def _score_group(
    model: "GPT", before: tuple[int, ...], last: list[tuple[int, int, int]]
) -> Iterator[tuple[int, Scored]]:
    """Score what begins with `before` and differs in its last token: number, token, and how many tokens count."""
    if len(last) == 1:
        number, token, count = last[0]
        found = prompt_found(model, np.array([*before, token], dtype=np.uint32), 1)
        yield number, _scored(zip(found[-count:], [*before, token][-count:], strict=True))
        return
    shared: list[Found] = []
    if (most := max(count for _, _, count in last)) > 1:
        shared = prompt_found(model, np.array(before, dtype=np.uint32), 1)[1 - most :]
    session = model.native.session()
    session.append(before)
    for number, token, count in last:
        found = [*shared[len(shared) + 1 - count :], session.logprobs(token, 1)]
        yield number, _scored(zip(found, [*before, token][-count:], strict=True))


def _scored(found: "Iterable[tuple[Found, int]]") -> Scored:
    total, is_greedy = 0.0, True
    for (logprob, best), token in found:
        total += logprob
        is_greedy = is_greedy and best[0][0] == token
    return Scored(total, is_greedy)


def rolling_logprob(model: "GPT", prefix: int, ids: Sequence[int], block_size: int | None = None) -> float:
    """Give the logarithm of the probability of a whole text of any length, in nats.

    Every token is predicted once, in windows of block_size tokens; the last begins so early that its tokens see as many
    before them as there is room for. This is how lm-eval lays windows.

    Args:
        model: The model.
        prefix: The id before the text, of `<s>` or an end of text.
        ids: The text's.
        block_size: Tokens that the model may see; its own if not given.

    >>> import subgpt
    >>> model = subgpt.GPT(subgpt.GPTConfig(11, block_size=8, n_layer=1, n_head=2, n_embd=8), seed=1)
    >>> bool(np.isclose(rolling_logprob(model, 0, [1, 2, 3]), -3 * model.loss([0, 1, 2], [1, 2, 3])))
    True

    """
    block = model.config.block_size if block_size is None else block_size
    whole = np.array([prefix, *ids], dtype=np.int64)
    total = 0.0
    for start in range(0, len(ids), block):
        end = min(start + block, len(ids))
        first = max(0, end - block)
        targets = whole[first + 1 : end + 1].copy()
        targets[: start - first] = IGNORED
        losses = model.token_losses(whole[first:end], targets, ignore_index=IGNORED)
        total -= float(losses.sum(dtype=np.float64))
    return total
