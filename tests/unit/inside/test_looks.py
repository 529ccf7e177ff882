"""The lens on a text, and the picture of attention."""

from __future__ import annotations

import numpy as np
import pytest

from subgpt import (
    InvalidValueError,
    SubgptError,
    lens_on,
    next_distribution,
    position_distributions,
    save_attention_plot,
)


def test_the_lens_ends_where_the_model_does(model, tokenizer):
    lens = lens_on(model, tokenizer, "so much", k=4)
    ids = tokenizer.encode("so much")
    assert lens.ids == tuple(ids)
    assert "".join(lens.texts) == "so much"
    assert len(lens.layers) == model.config.n_layer + 1
    assert all(len(layer) == len(ids) and all(len(at) == 4 for at in layer) for layer in lens.layers)
    expected = next_distribution(model, tokenizer, "so much", 4)
    assert [token.id for token in lens.layers[-1][-1]] == [token.id for token in expected.tokens]
    assert [t.probability for t in lens.layers[-1][-1]] == pytest.approx(
        [t.probability for t in expected.tokens]
    )


def test_of_a_long_text_the_end_is_looked_at(model, tokenizer):
    text, block = "so much " * 40, model.config.block_size
    ids = tokenizer.encode(text)
    lens = lens_on(model, tokenizer, text)
    positions = position_distributions(model, tokenizer, text)
    assert lens.first == positions[0].position == len(ids) - block
    assert lens.ids == tuple(ids[-block:]) == tuple(p.id for p in positions)


def test_a_picture_of_every_head_or_of_some(model, tokenizer, tmp_path):
    for name in ("a.png", "a.svg"):
        path = save_attention_plot(model, tokenizer, "so much", tmp_path / name)
        assert path.stat().st_size > 1000
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text.count("<image") == model.config.n_layer * model.config.n_head + 1, "a map each, and the scale"
    save_attention_plot(model, tokenizer, "so much", tmp_path / "one.svg", layers=[0], heads=[1])
    assert (tmp_path / "one.svg").read_text(encoding="utf-8").count("<image") == 2
    save_attention_plot(model, tokenizer, "so much " * 40, tmp_path / "long.png")


def test_pictures_that_cannot_be(model, tokenizer, tmp_path):
    with pytest.raises(InvalidValueError, match="must end in"):
        save_attention_plot(model, tokenizer, "so", tmp_path / "a.gif")
    for wrong in ([model.config.n_layer], [-1], [True], [0.5]):
        with pytest.raises(InvalidValueError, match=f"0 to {model.config.n_layer - 1}"):
            save_attention_plot(model, tokenizer, "so", tmp_path / "a.png", layers=wrong)
    with pytest.raises(InvalidValueError, match="heads is empty"):
        save_attention_plot(model, tokenizer, "so", tmp_path / "a.png", heads=[])
    assert list(tmp_path.iterdir()) == []


def test_counts_that_cannot_be(model, tokenizer):
    for k in (0, 1.5, True):
        with pytest.raises(InvalidValueError, match="lens_on: k is"):
            lens_on(model, tokenizer, "a", k)
        with pytest.raises(InvalidValueError, match=r"GPT\.logit_lens: k is"):
            model.logit_lens([1, 2], k=k)
    with pytest.raises(InvalidValueError, match="vocab_size"):
        model.logit_lens([1, 2], k=model.config.vocab_size + 1)


def test_ids_of_one_text_or_of_several(model):
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    shapes = [np.shape(f(ids)) for f in (model.hidden_states, model.logit_lens, model.attention_maps)]
    layers, heads, config = model.config.n_layer, model.config.n_head, model.config
    assert shapes == [
        (layers + 1, 2, 3, config.n_embd),
        (layers + 1, 2, 3, config.vocab_size),
        (layers, 2, heads, 3, 3),
    ]
    assert np.shape(model.attention_maps(ids[0])) == (layers, heads, 3, 3)
    for wrong, words in (
        ([], "empty"),
        ([[[1]]], "shape"),
        ([config.vocab_size], "ids"),
        ([0] * 17, "17 tokens"),
    ):
        for call in (model.hidden_states, model.logit_lens, model.attention_maps):
            with pytest.raises(SubgptError, match=words):
                call(wrong)
