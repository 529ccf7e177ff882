"""Continuations and whole texts, as evaluation harnesses ask for them, against logits."""

from __future__ import annotations

import numpy as np
import pytest

from subgpt import InvalidValueError
from subgpt.evaluation.continuations import rolling_logprob, score_continuations


def logprobs(model, ids):
    """Of every token after each of `ids`, in float64: (T, vocab_size)."""
    logits = model.forward(ids).astype(np.float64)
    return (
        logits
        - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - logits.max(-1, keepdims=True)
    )


def expected(model, context, continuation, block):
    whole = [*context, *continuation][-block - 1 :]
    found = logprobs(model, whole[:-1])[-len(continuation) :]
    greedy = found.argmax(-1).tolist() == whole[-len(continuation) :]
    return sum(row[token] for row, token in zip(found, whole[-len(continuation) :], strict=True)), greedy


@pytest.mark.parametrize("block", [16, 9])
def test_continuations(model, block):
    rng = np.random.default_rng(3)
    size = model.config.vocab_size
    pairs = [(rng.integers(0, size, before), rng.integers(0, size, after))
             for before, after in [(1, 1), (3, 5), (1, 9), (16, 1), (20, 3), (9, 8), (30, 9)]]  # fmt: skip
    best = model.generate([5, 3], max_new_tokens=4, temperature=0, eos_token_id=()).tolist()
    pairs += [([5, 3], best[2:]), ([5, 3], [*best[2:5], (best[5] + 1) % size])]
    # All that may follow, and longer ones that end alike: one group.
    pairs += [([7, 8, 2], [token]) for token in range(size)] + [([7], [8, 2, 4]), ([7, 8], [2, 1])]
    pairs = [(list(map(int, context)), list(map(int, after))) for context, after in pairs]
    found = dict(score_continuations(model, pairs, block))
    assert sorted(found) == list(range(len(pairs)))
    for number, (context, after) in enumerate(pairs):
        logprob, greedy = expected(model, context, after, block)
        assert found[number].logprob == pytest.approx(logprob, abs=1e-4)
        assert found[number].is_greedy == greedy
    assert found[7].is_greedy
    assert not found[8].is_greedy
    assert sum(np.exp(found[9 + token].logprob) for token in range(size)) == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_scored(model):
    assert list(score_continuations(model, [])) == []
    assert list(score_continuations(model, [([1], [])])) == [(0, (0.0, True))]
    for pair in ([], [1]), ([1], [2] * 17):
        with pytest.raises(InvalidValueError, match=r"pair 1 .* block_size = 16"):
            list(score_continuations(model, [([1], [2]), pair]))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32, 33, 50])
@pytest.mark.parametrize("block", [16, 7])
def test_whole_texts_predict_each_token_once(model, length, block):
    ids = np.random.default_rng(length).integers(0, model.config.vocab_size, length).tolist()
    whole = [2, *ids]
    total = 0.0
    for start in range(0, length, block):  # where predictions of a window begin
        end = min(start + block, length)
        first = max(0, end - block)
        found = logprobs(model, whole[first:end])
        total += sum(found[at - first][whole[at + 1]] for at in range(start, end))
    assert rolling_logprob(model, 2, ids, block) == pytest.approx(total, abs=1e-4)
