"""The distribution over the next token: after a text, at every position, before and after the rules of sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from subgpt import (
    ConfigError,
    InvalidValueError,
    next_distribution,
    next_tokens,
    position_distributions,
    sampling_probs,
)
from subgpt.evaluation.next_tokens import distribution_of
from subgpt.evaluation.reshaped import reshaped_distribution

TEXT = "so much depends"


def test_entropy_and_what_follows_from_it(tokenizer):
    probs = np.array([0.5, 0.25, 0.0, 0.25])
    found = distribution_of(tokenizer, probs, 2)
    assert [token.id for token in found.tokens] == [0, 1], "of equal ones the smaller id"
    assert found.bits == pytest.approx(1.5)
    assert found.entropy == pytest.approx(1.5 * math.log(2))
    assert found.perplexity == pytest.approx(2**1.5)
    assert found.shown == 0.75
    assert len(distribution_of(tokenizer, probs, 9).tokens) == 3, "what is impossible is not shown"
    sure = distribution_of(tokenizer, np.array([0.0, 1.0]), 5)
    assert (sure.entropy, sure.perplexity, sure.shown) == (0.0, 1.0, 1.0)


def test_the_models_own_distribution(model, tokenizer):
    probs = model.next_token_probs(tokenizer.encode(TEXT)).astype(np.float64)
    found = next_distribution(model, tokenizer, TEXT, 5)
    assert list(found.tokens) == next_tokens(model, tokenizer, TEXT, 5)
    assert found.entropy == pytest.approx(-(probs * np.log(probs)).sum())
    assert found.shown == pytest.approx(np.sort(probs)[-5:].sum())


def test_the_rules_of_sampling_reshape_it(model, tokenizer):
    options = {"temperature": 0.5, "top_k": 4, "repetition_penalty": 1.3}
    ids = tokenizer.encode(TEXT)
    expected = sampling_probs(model.forward(ids[-16:])[-1], context=ids, **options)
    found = next_distribution(model, tokenizer, TEXT, **options)
    assert [token.id for token in found.tokens] == np.argsort(-expected, kind="stable")[:4].tolist()
    both = reshaped_distribution(model, tokenizer, TEXT, 6, **options)
    assert both.after.tokens == found.tokens
    assert both.before.tokens == next_distribution(model, tokenizer, TEXT, 6, temperature=1.0).tokens
    shown = {token.id: token for token in both.tokens}
    assert shown.keys() == {t.id for t in (*both.before.tokens, *both.after.tokens)}
    assert all(shown[t.id].before == t.probability for t in both.before.tokens)
    assert all(shown[t.id].after == t.probability for t in both.after.tokens)
    assert [t.before for t in both.tokens] == sorted((t.before for t in both.tokens), reverse=True)
    assert sum(token.after == 0 for token in both.tokens) >= 2
    with pytest.raises(ConfigError, match="no option 'top_j'"):
        next_distribution(model, tokenizer, TEXT, top_j=1)


def test_every_position_and_what_follows_there(model, tokenizer):
    ids = tokenizer.encode(TEXT)
    targets = ids[1:].astype(np.int64)
    losses = model.token_losses(ids[:-1], targets)
    positions = position_distributions(model, tokenizer, TEXT, k=2)
    assert [p.id for p in positions] == ids.tolist()
    assert "".join(p.text for p in positions) == TEXT
    for i, p in enumerate(positions[:-1]):
        probs = np.exp(np.asarray(model.forward(ids[: i + 1])[-1], np.float64))
        assert p.following.id == targets[i]
        assert -math.log(p.following.probability) == pytest.approx(losses[i], rel=1e-5)
        assert p.rank == sorted(probs, reverse=True).index(probs[targets[i]]) + 1
        after = next_distribution(model, tokenizer, TEXT[: i + 1], 2)
        assert [t.id for t in p.expected.tokens] == [t.id for t in after.tokens]
        assert p.expected.entropy == pytest.approx(after.entropy, rel=1e-5)
    assert positions[-1].following is None
    assert positions[-1].rank is None


def test_greedy_positions(model, tokenizer):
    for p in position_distributions(model, tokenizer, TEXT, temperature=0.0):
        assert len(p.expected.tokens) == 1
        assert p.expected.entropy == 0


def test_counts_that_cannot_be(model, tokenizer):
    for call in (next_distribution, position_distributions, reshaped_distribution):
        with pytest.raises(InvalidValueError, match=f"{call.__name__}: k is 0"):
            call(model, tokenizer, "a", 0)
