"""One step of each optimizer, against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from subgpt import GPT, SGD, AdamW, ConfigError

X, Y = [[1, 2, 3, 4]], [[2, 3, 4, 5]]


def steps(model, optimizer, count):
    """Weights before, gradients of each step, weights after."""
    before, grads = model.state_dict(), []
    for _ in range(count):
        model.backward(X, Y)
        grads.append(model.grads())
        optimizer.step()
        model.zero_grad()
    return before, grads, model.state_dict()


def test_sgd_is_w_minus_alpha_d_exactly(model):
    before, (grads,), after = steps(model, SGD(model, 0.1), 1)
    for name, weight in before.items():
        assert np.array_equal(after[name], weight - np.float32(0.1) * grads[name]), name


def test_momentum_keeps_a_share_of_the_last_step(model):
    before, (first, second), after = steps(model, SGD(model, 0.1, momentum=0.9), 2)
    for name, weight in before.items():
        expected = weight - 0.1 * first[name] - 0.1 * (0.9 * first[name] + second[name])
        assert np.allclose(after[name], expected, atol=1e-7), name


@pytest.mark.parametrize("decay", ["matrices", "all"])
def test_the_first_step_of_adamw(model, decay):
    before, (grads,), after = steps(model, AdamW(model, 0.01, eps=1e-6, weight_decay=0.5, decay=decay), 1)
    for name, weight in before.items():
        shrink = 1 - 0.01 * 0.5 if decay == "all" or weight.ndim >= 2 else 1.0
        grad = grads[name].astype(np.float64)
        expected = weight * shrink - 0.01 * grad / (np.abs(grad) + 1e-6)
        assert np.allclose(after[name], expected, atol=1e-6), name


def test_a_step_may_have_its_own_rate_and_steps_are_counted(model):
    optimizer = AdamW(model, 0.01)
    before = model.state_dict()
    model.backward(X, Y)
    optimizer.step(0.0)
    assert optimizer.steps == 1
    assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "make",
    [
        lambda m: SGD(m, -0.1),
        lambda m: SGD(m, float("nan")),
        lambda m: SGD(m, float("inf")),
        lambda m: SGD(m, 0.1, momentum=1.0),
        lambda m: AdamW(m, 0.1, betas=(1.0, 0.9)),
        lambda m: AdamW(m, 0.1, betas=0.9),
        lambda m: AdamW("model", 0.1),
        lambda m: AdamW(m, 0.1, weight_decay=-1),
        lambda m: AdamW(m, 0.1, decay="matrix"),
        lambda m: SGD(m, 0.1).step(-1),
    ],
)
def test_values_that_cannot_be_are_refused(model, make):
    with pytest.raises(ConfigError, match="optimizer: "):
        make(model)


def test_a_tiny_model_memorises_a_batch(tiny):
    model = GPT(tiny(), seed=3)
    optimizer = AdamW(model, 1e-2, weight_decay=0.0)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.config.vocab_size, (4, 17))
    for _ in range(300):
        loss = model.backward(ids[:, :-1], ids[:, 1:])
        model.clip_grad_norm(1.0)
        optimizer.step()
        model.zero_grad()
    assert loss < 0.05
