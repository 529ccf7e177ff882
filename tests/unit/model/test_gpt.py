"""GPT: shapes, seeds, weights in and out."""

from __future__ import annotations

import numpy as np
import pytest

import subgpt
from subgpt import GPT, GPTConfig
from subgpt.errors import ConfigError, DtypeError, InvalidValueError, ShapeError


def test_shapes_and_types(model):
    ids = np.arange(10, dtype=np.int16).reshape(2, 5)
    vocab_size = model.config.vocab_size
    logits = model.forward(ids)
    assert logits.shape == (2, 5, vocab_size)
    assert logits.dtype == np.float32
    assert model.forward(ids[0]).shape == (5, vocab_size)
    assert np.array_equal(model.forward(ids[0].tolist()), model.forward(ids[0]))
    assert np.allclose(model.forward(ids)[0], model.forward(ids[0]), atol=1e-6)
    probs = model.next_token_probs(ids[0])
    assert probs.shape == (vocab_size,)
    assert probs.dtype == np.float32
    assert (probs >= 0).all()
    assert (probs <= 1).all()
    assert abs(probs.sum() - 1) < 1e-5


def test_loss_is_cross_entropy_over_the_targets_that_count(model):
    ids, targets = np.array([[1, 2, 3]]), np.array([[2, -100, 4]])
    logits = model.forward(ids)[0].astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert model.loss(ids, targets) == pytest.approx(-(log_probs[0, 2] + log_probs[2, 4]) / 2, abs=1e-6)
    assert model.loss(ids, np.array([[2, 0, 4]]), ignore_index=0) == pytest.approx(model.loss(ids, targets))


def test_texts_that_share_a_row_do_not_see_each_other(model):
    ids = np.array([[1, 2, 3, 4, 5, 0], [6, 7, 8, 9, 1, 2]])
    targets = np.array([[2, 3, 4, 5, 6, -100], [7, 8, 9, 1, 2, 3]])
    documents = [[0, 0, 1, 1, 1, -1], [0, 1, 1, 1, 1, 5]]
    losses = model.token_losses(ids, targets, documents=documents)
    assert losses.dtype == np.float32
    places = [(0, 0, 2), (0, 2, 5), (1, 0, 1), (1, 1, 5), (1, 5, 6)]
    for row, start, end in places:
        own = model.token_losses(ids[row, start:end], targets[row, start:end])
        assert np.allclose(losses[row, start:end], own, atol=1e-5)
    loss = model.loss(ids, targets, documents=documents)
    assert loss == pytest.approx(losses.sum() / 11, abs=1e-6)
    assert model.backward(ids, targets, documents=np.array(documents)) == loss
    assert model.loss(ids, targets) != loss
    assert model.loss(ids[0], targets[0], documents=documents[0]) == pytest.approx(
        losses[0].sum() / 5, abs=1e-6
    )


@pytest.mark.parametrize(
    ("documents", "error", "match"),
    [
        (
            [0, 1, 0],
            InvalidValueError,
            "documents is 0 at place 2 of row 0; number the documents of a row upwards",
        ),
        ([0, -2, 0], InvalidValueError, "documents is -2 at place 1"),
        ([0, -1, 0], InvalidValueError, "documents is 0 at place 2"),
        ([0, 1], ShapeError, "documents has shape"),
        ([[0, 1, 1]] * 2, ShapeError, "documents has shape"),
        ([0.0, 1.0, 1.0], DtypeError, "documents must be integers"),
    ],
)
def test_documents_that_cannot_be_are_refused(model, documents, error, match):
    with pytest.raises(error, match=match):
        model.loss([1, 2, 3], [2, 3, 4], documents=documents)
    with pytest.raises(error, match=match):
        model.forward([1, 2, 3], documents=documents)


def test_the_same_seed_gives_the_same_weights_and_any_size_of_seed_is_taken(tiny):
    for seed in (0, 7, 2**64 - 1, 2**64, 10**40):
        one, two = GPT(tiny(), seed=seed).state_dict(), GPT(tiny(), seed=seed).state_dict()
        assert all(np.array_equal(one[name], two[name]) for name in one)
    other = GPT(tiny(), seed=8).state_dict()
    assert not np.array_equal(other["transformer.wte.weight"], one["transformer.wte.weight"])


@pytest.mark.parametrize("seed", [-1, 1.5, True, "1", None])
def test_a_seed_that_is_none_is_refused(tiny, seed):
    with pytest.raises(InvalidValueError, match="seed is"):
        GPT(tiny(), seed=seed)


def test_other_dtypes_and_configs_are_refused(tiny):
    with pytest.raises(ConfigError, match="dtype = 'float16' is not known; did you mean 'bfloat16'"):
        GPT(tiny(), seed=1, dtype="float16")
    with pytest.raises(ConfigError, match="config is dict"):
        GPT({}, seed=1)


def test_the_format_of_products_is_chosen_and_changed(tiny):
    assert GPT(tiny(), seed=1).dtype == "float32"
    assert GPT(tiny(), seed=1, dtype="auto").dtype == (
        "bfloat16" if subgpt._core.prefers_bf16() else "float32"
    )
    model = GPT(tiny(dropout=0.1), seed=1, dtype="bfloat16")
    assert model.dtype == "bfloat16"
    exact = GPT(tiny(dropout=0.1), seed=1)
    weights = exact.state_dict()
    assert all(np.array_equal(value, weights[name]) for name, value in model.state_dict().items())
    model.gradient_checkpointing = True
    model.backward([[1, 2, 3]], [[2, 3, 4]])
    before = model.native.dropout_state
    model.dtype = "float32"
    assert (model.dtype, model.gradient_checkpointing) == ("float32", True)
    assert model.native.dropout_state == before
    assert all(np.array_equal(value, weights[name]) for name, value in model.state_dict().items())
    assert model.loss([[1, 2, 3]], [[2, 3, 4]]) == exact.loss([[1, 2, 3]], [[2, 3, 4]])
    with pytest.raises(ConfigError, match="dtype = 'fp8' is not known"):
        model.dtype = "fp8"
    with pytest.raises(ConfigError, match="gradient_checkpointing = 1 is not a truth value"):
        model.gradient_checkpointing = 1


def test_recomputed_activations_give_the_same_bits(tiny):
    losses, gradients = [], []
    for recompute in (False, True):
        model = GPT(tiny(n_layer=2, dropout=0.2), seed=1)
        model.gradient_checkpointing = recompute
        losses.append(model.backward([[1, 2, 3]], [[2, 3, 4]]))
        gradients.append(model.grads())
    assert losses[0] == losses[1]
    assert all(np.array_equal(value, gradients[1][name]) for name, value in gradients[0].items())


def test_weights_come_back_bit_for_bit(model, tiny):
    other = GPT(tiny(), seed=2)
    other.load_state_dict(model.state_dict())
    ids = [[3, 1, 4, 1, 5]]
    assert np.array_equal(other.forward(ids), model.forward(ids))


def test_missing_extra_and_misshaped_tensors_are_all_named(model):
    weights = model.state_dict()
    before = model.forward([[1, 2]])
    weights["transformer.wte.weigth"] = weights.pop("transformer.wte.weight")
    weights["transformer.ln_f.bias"] = np.zeros(3)
    with pytest.raises(ShapeError) as caught:
        model.load_state_dict(weights)
    message = str(caught.value)
    assert "transformer.wte.weight is missing" in message
    assert "did you mean 'transformer.wte.weight'" in message
    assert "transformer.ln_f.bias has shape (3,), expected (16,)" in message
    assert np.array_equal(model.forward([[1, 2]]), before), "nothing was taken"


def test_a_tied_output_layer_may_be_given_if_it_is_the_embedding(model):
    weights = model.state_dict()
    model.load_state_dict({**weights, "lm_head.weight": weights["transformer.wte.weight"]})
    with pytest.raises(ShapeError, match="tie_embeddings=False"):
        model.load_state_dict({**weights, "lm_head.weight": weights["transformer.wte.weight"] + 1})


def test_gradients_add_up_and_clip(model):
    x, y = [[1, 2, 3]], [[2, 3, 4]]
    model.backward(x, y)
    once = model.grads()
    model.backward(x, y, scale=2.0)
    for name, grad in model.grads().items():
        assert np.allclose(grad, 3 * once[name], rtol=1e-4, atol=1e-7), name
    norm = model.grad_norm()
    total = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in model.grads().values()))
    assert norm == pytest.approx(total, rel=1e-6)
    assert model.clip_grad_norm(0.5) == norm
    assert model.grad_norm() == pytest.approx(0.5, rel=1e-4)
    model.zero_grad()
    assert model.grad_norm() == 0


def test_num_params_counts_tied_weights_once(model, tiny):
    assert model.num_params() == sum(value.size for value in model.state_dict().values())
    assert model.num_params() - model.num_params(non_embedding=True) == 16 * 16
    untied = GPT(tiny(tie_embeddings=False), seed=1)
    assert untied.num_params() - model.num_params() == model.config.vocab_size * 16


def test_generate_appends_and_goes_on_past_the_block(model):
    ids = model.generate([1, 2, 3], max_new_tokens=40, seed=5)
    assert ids.dtype == np.uint32
    assert len(ids) == 43
    assert ids[:3].tolist() == [1, 2, 3]
    assert np.array_equal(ids, model.generate(np.array([1, 2, 3]), max_new_tokens=40, seed=5))
    greedy = model.generate([1], max_new_tokens=5, temperature=0)
    assert greedy[1] == model.forward([1])[-1].argmax()
    assert model.generate([1], max_new_tokens=5, temperature=0, eos_token_id=int(greedy[3])).tolist() in (
        greedy[:n].tolist() for n in range(1, 4)
    )
    with pytest.raises(ConfigError, match="need a tokenizer"):
        model.generate([1], stop="x")


def test_it_says_what_it_is(model):
    assert "1 layers, 2 heads, 16 wide" in repr(model)
    assert f"{model.num_params():,}" in repr(model)


def test_public_names_are_all_there():
    for name in subgpt.__all__:
        assert getattr(subgpt, name) is not None
    assert set(subgpt.__all__) <= set(dir(subgpt))
    with pytest.raises(AttributeError, match="no attribute 'Gpt'"):
        subgpt.Gpt  # noqa: B018


@pytest.mark.parametrize(
    "changes", [{}, {"tie_embeddings": False}, {"norm": "rms_norm", "position": "rotary"}]
)
def test_a_larger_vocabulary_keeps_what_was_learnt(changes):
    model = GPT(GPTConfig(11, 8, 1, 2, 8, **changes), seed=1)
    state, logits = model.state_dict(), model.forward([1, 2, 3])
    model.resize_embeddings(11)
    model.resize_embeddings(14)
    assert model.config.vocab_size == 14
    np.testing.assert_allclose(model.forward([1, 2, 3])[:, :11], logits, rtol=0, atol=1e-6)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value[: len(state[name])], state[name])
        if len(value) == 14:
            distances = np.abs(value[11:] - value[:11].mean(0)) / value[:11].std(0)
            assert 0.5 < distances.mean() < 1.2  # 0.8 for a normal distribution
            assert len(np.unique(value[11:], axis=0)) == 3
    again = GPT(GPTConfig(11, 8, 1, 2, 8, **changes), seed=1)
    again.resize_embeddings(14)
    np.testing.assert_array_equal(again.forward([12, 13]), model.forward([12, 13]))
    with pytest.raises(subgpt.InvalidValueError, match="vocab_size = 5 is below the present 14"):
        model.resize_embeddings(5)


def test_a_larger_vocabulary_thaws_nothing():
    model = GPT(GPTConfig(11, 8, 2, 2, 8), seed=1)
    model.freeze(["embeddings", "0"])
    before = sorted(model.grads())
    model.resize_embeddings(14)
    assert sorted(model.grads()) == before
    model.freeze([])
    assert len(model.grads()) > len(before)


def test_one_pattern_is_not_taken_for_several():
    model = GPT(GPTConfig(11, 8, 3, 2, 8), seed=1)
    with pytest.raises(ConfigError, match="freeze: '12' means no weight"):
        model.freeze("12")
    model.freeze("0-1")
    assert all(".h.2." in name or ".h." not in name for name in model.grads())
