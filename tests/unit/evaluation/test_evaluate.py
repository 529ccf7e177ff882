"""Evaluation: every token once, weighted, in nats and in bits per byte."""

from __future__ import annotations

import math

import numpy as np
import pytest

import subgpt
from subgpt import ConfigError, DataError, evaluate, next_tokens, prepare_data
from subgpt.data import read_index, read_shard
from subgpt.data.loader import Batches, evaluation_batches
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
    made = []
    windows = evaluation_batches(tokens, block_size=10, batch_size=10)
    held = HeldOut(Batches(range(len(windows)), lambda number: made.append(number) or windows[number]), 1000)
    starts = [int(x[0, 0]) for x, _ in held.limited(5).batches]
    assert starts == [0, 200, 400, 600, 800]
    assert made == [0, 2, 4, 6, 8], "no other batch is made"
    assert held.limited(10) is held
    assert held.limited(0) is held


def test_what_cannot_be_measured(model, tokenizer, poems):
    with pytest.raises(ConfigError, match="block_size = 17"):
        evaluate(model, tokenizer, iter(poems), block_size=17)
    with pytest.raises(DataError):
        evaluate(model, tokenizer, iter([" "]))
    masked = (np.array([[1]], dtype=np.uint32), np.array([[-100]]))
    with pytest.raises(DataError, match="no target that counts"):
        measure(model, HeldOut([masked], 0))


def test_next_tokens_are_the_most_probable(model, tokenizer):
    probs = model.next_token_probs(tokenizer.encode("so much"))
    found = next_tokens(model, tokenizer, "so much", 5)
    assert [token.probability for token in found] == sorted(probs.tolist(), reverse=True)[:5]
    assert [token.text for token in found] == [tokenizer.decode([token.id]) for token in found]
    assert len(next_tokens(model, tokenizer, "", 10_000)) == model.config.vocab_size
    for k in (0, -1, 1.5, True):
        with pytest.raises(subgpt.InvalidValueError, match="k is"):
            next_tokens(model, tokenizer, "a", k)


@pytest.fixture
def prepared(tokenizer, poems, tmp_path):
    prepare_data(poems, tmp_path / "set", tokenizer, val_fraction=0.3)
    return tmp_path / "set"


def texts_of(folder, side, tokenizer):
    """The documents of a side, as they were written down."""
    found = []
    for shard in sorted(folder.glob(f"{side}-*.bin")):
        ids, begin = read_shard(shard), 0
        for end in read_index(shard.with_suffix(".idx"))["end"]:
            found.append(tokenizer.decode(ids[begin : end - 1]))
            begin = end
    return found


@pytest.mark.parametrize("side", ["val", "train"])
def test_of_prepared_data_a_side_is_measured_as_its_text_would_be(model, tokenizer, prepared, side):
    there = evaluate(model, tokenizer, prepared, side=side)
    texts = texts_of(prepared, side, tokenizer)
    assert len(texts) > 3
    text = evaluate(model, tokenizer, iter(texts))
    assert (there.loss, there.tokens, there.bits_per_byte) == (text.loss, text.tokens, text.bits_per_byte)


def test_several_sets_are_measured_together(model, tokenizer, prepared, poems, tmp_path):
    prepare_data(poems[:9], tmp_path / "other", tokenizer, val_fraction=0.5)
    sets = [prepared, tmp_path / "other"]
    one, other = (evaluate(model, tokenizer, path) for path in sets)
    both = evaluate(model, tokenizer, sets)
    assert both.tokens == one.tokens + other.tokens
    assert both.loss * both.tokens == pytest.approx(one.loss * one.tokens + other.loss * other.tokens)


def test_files_of_ids_that_hold_nothing_out_are_measured_as_a_whole(model, tokenizer, poems, tmp_path):
    ids = tokenizer.encode("".join(poems))
    (tmp_path / "train.bin").write_bytes(ids.astype("<u2").tobytes())
    seen = evaluate(model, tokenizer, tmp_path / "train.bin")
    assert (seen.tokens, seen.bits_per_byte) == (len(ids) - 1, None)
    (tmp_path / "val.bin").write_bytes(ids[:50].astype("<u2").tobytes())
    assert evaluate(model, tokenizer, tmp_path).tokens == 49
    assert evaluate(model, tokenizer, tmp_path, side="train").tokens == len(ids) - 1


def test_prepared_data_that_cannot_be_measured(model, tokenizer, prepared, poems, tmp_path):
    other = subgpt.Tokenizer.train(iter([*poems, "£"]), level="char", special_tokens=("<|endoftext|>",))
    prepare_data(poems, tmp_path / "foreign", other, val_fraction=0.3)
    with pytest.raises(DataError, match="was prepared with another tokenizer"):
        evaluate(model, tokenizer, tmp_path / "foreign")
    prepare_data(poems, tmp_path / "whole", tokenizer, val_fraction=0)
    with pytest.raises(DataError, match=r"nothing in it is held out; .*--side train"):
        evaluate(model, tokenizer, tmp_path / "whole")
    assert evaluate(model, tokenizer, tmp_path / "whole", side="train").tokens > 100
    with pytest.raises(ConfigError, match=r"has the weight 0\.5, which is for training"):
        evaluate(model, tokenizer, f"{prepared}:0.5")
    with pytest.raises(ConfigError, match="give 'val' or 'train'"):
        evaluate(model, tokenizer, prepared, side="test")
    with pytest.raises(ConfigError, match="side = 'train' is for prepared data"):
        evaluate(model, tokenizer, iter(poems), side="train")
