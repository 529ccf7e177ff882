"""Evaluation: every token once, weighted, in nats and in bits per byte."""

from __future__ import annotations

import math

import numpy as np
import pytest

import subgpt
from subgpt import ConfigError, DataError, evaluate, next_tokens
from subgpt.data.loader import evaluation_batches
from subgpt.evaluation.measure import HeldOut, measure


def test_the_whole_text_is_measured_once(model, tokenizer, poems, tmp_path):
    text = "".join(poems)
    (tmp_path / "held.txt").write_text(text)
    seen = evaluate(model, tokenizer, tmp_path / "held.txt")
    ids = tokenizer.encode(text).astype(np.int64)
    ids = np.append(ids, tokenizer.eot_id)
    nats = 0.0
    for start in range(0, len(ids) - 1, 16):
        x, y = ids[start : start + 16], ids[start + 1 : start + 17]
        nats += model.loss(x[: len(y)], y) * len(y)
    assert seen.tokens == len(ids) - 1
    assert seen.loss == pytest.approx(nats / seen.tokens, rel=1e-6)
    assert seen.perplexity == pytest.approx(math.exp(seen.loss))
    assert seen.bits_per_byte == pytest.approx(nats / math.log(2) / len(text.encode()), rel=1e-6)
    assert "bits per byte" in str(seen)


def test_the_batch_size_does_not_matter(model, tokenizer, poems):
    one, many = (evaluate(model, tokenizer, iter(poems), batch_size=size) for size in (1, 7))
    assert one.loss == pytest.approx(many.loss, rel=1e-6)


def test_of_questions_the_answers_are_measured(model, tokenizer):
    rows = [
        {"question": "who sits?", "answer": "the cat"},
        {"question": "where?", "answer": "on little feet"},
    ]
    seen = evaluate(model, tokenizer, rows)
    text_bytes = len(" the cat") + len(" on little feet")
    assert seen.tokens == text_bytes + 2
    bits = seen.loss * seen.tokens / math.log(2)
    assert seen.bits_per_byte == pytest.approx(bits / text_bytes), "the end of text is no byte of the answer"


def test_a_limit_spreads_over_the_whole():
    tokens = np.arange(1001, dtype=np.uint32)
    held = HeldOut(lambda: evaluation_batches(tokens, block_size=10, batch_size=10), 1000)
    starts = [int(x[0, 0]) for x, _ in held.limited(5).batches()]
    assert starts == [0, 200, 400, 600, 800]
    assert held.limited(10) is held
    assert held.limited(0) is held


def test_what_cannot_be_measured(model, tokenizer, poems):
    with pytest.raises(ConfigError, match="block_size = 17"):
        evaluate(model, tokenizer, iter(poems), block_size=17)
    with pytest.raises(DataError):
        evaluate(model, tokenizer, iter([" "]))
    masked = (np.array([[1]], dtype=np.uint32), np.array([[-100]]))
    with pytest.raises(DataError, match="no target that counts"):
        measure(model, HeldOut(lambda: [masked], 0))


def test_next_tokens_are_the_most_probable(model, tokenizer):
    probs = model.next_token_probs(tokenizer.encode("so much"))
    found = next_tokens(model, tokenizer, "so much", 5)
    assert [token.probability for token in found] == sorted(probs.tolist(), reverse=True)[:5]
    assert [token.text for token in found] == [tokenizer.decode([token.id]) for token in found]
    assert len(next_tokens(model, tokenizer, "", 10_000)) == model.config.vocab_size
    for k in (0, -1, 1.5, True):
        with pytest.raises(subgpt.InvalidValueError, match="k is"):
            next_tokens(model, tokenizer, "a", k)
