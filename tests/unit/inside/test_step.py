"""One step of gradient descent: its numbers are those of the SGD optimizer, and the model stays as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest

import subgpt
from subgpt import GPT, SGD, ConfigError, DataError, InvalidValueError, explain_step, tiny_model
from subgpt.adapters.config import LoraConfig

TEXT = "the cat sat on the mat"


@pytest.fixture
def pair():
    return tiny_model(TEXT, seed=3)


def by_hand(model: GPT, ids: np.ndarray, lr: float, steps: int) -> list[float]:
    twin = GPT(model.config, seed=0)
    twin.load_state_dict(model.state_dict())
    optimizer, losses = SGD(twin, lr), [twin.loss(ids[:-1], ids[1:])]
    for _ in range(steps):
        twin.backward(ids[:-1], ids[1:])
        optimizer.step()
        twin.zero_grad()
        losses.append(twin.loss(ids[:-1], ids[1:]))
    return losses


def test_it_is_gradient_descent(pair):
    model, tokenizer = pair
    told = explain_step(model, tokenizer, TEXT, lr=0.2, steps=4)
    ids = tokenizer.encode(TEXT)
    assert told.losses == pytest.approx(by_hand(model, ids, 0.2, 4), rel=1e-5)
    assert (told.loss_before, told.loss_after) == told.losses[:2]
    for trial, rate in zip(told.trials, (0.02, 0.2, 2, 20), strict=True):
        assert trial.learning_rate == pytest.approx(rate)
        assert trial.loss == pytest.approx(by_hand(model, ids, rate, 1)[1], rel=1e-4)
    assert told.trials[1].loss == told.loss_after
    assert told.tokens == tuple(TEXT)
    assert told.num_trained == model.num_params()


def test_the_weights_on_show_are_those_of_the_model(pair):
    model, tokenizer = pair
    ids = tokenizer.encode(TEXT)
    told = explain_step(model, tokenizer, TEXT, lr=0.2, weights=6)
    model.backward(ids[:-1], ids[1:])
    grads, weights = model.grads(), model.state_dict()
    norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in grads.values()))
    assert told.gradient_norm == pytest.approx(norm, rel=1e-5)
    assert told.foretold_change == pytest.approx(-0.2 * norm**2, rel=1e-5)
    assert len({step.tensor for step in told.weights}) == 6, "each of another tensor"
    sizes = sorted((float(np.abs(g).max()) for g in grads.values()), reverse=True)
    assert [abs(step.gradient) for step in told.weights] == pytest.approx(sizes[:6], rel=1e-6)
    for step in told.weights:
        assert step.old == weights[step.tensor][step.index]
        assert step.gradient == pytest.approx(float(grads[step.tensor][step.index]), rel=1e-6)
        assert step.new == pytest.approx(step.old - 0.2 * step.gradient, rel=1e-6)


def test_the_gradient_foretells_a_short_step(pair):
    model, tokenizer = pair
    told = explain_step(model, tokenizer, TEXT, lr=2e-3)
    assert told.loss_after - told.loss_before == pytest.approx(told.foretold_change, rel=0.05)


def test_the_model_stays_as_it_is(pair):
    _, tokenizer = pair
    config = pair[0].config.replace(dropout=0.3)
    model = GPT(config, seed=3)
    model.backward([1, 2], [2, 3])
    state, grads = model.state_dict(), model.grads()
    one, two = (explain_step(model, tokenizer, TEXT, steps=3) for _ in range(2))
    assert one == two, "nothing falls out, and nothing is carried over"
    assert all(np.array_equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(np.array_equal(value, grads[name]) for name, value in model.grads().items())


def test_frozen_weights_stay(pair):
    model, tokenizer = pair
    model.freeze(["embeddings", "0"])
    told = explain_step(model, tokenizer, TEXT, weights=99)
    assert {step.tensor for step in told.weights} == set(model.grads())
    assert told.num_trained == model.num_trained()


def test_the_worked_example_has_the_numbers(pair):
    model, tokenizer = pair
    told = explain_step(model, tokenizer, TEXT, lr=0.25, steps=30)
    text = str(told)
    lines = text.splitlines()
    assert "new_w =     old_w - alpha *         d" in text
    for step in told.weights:
        line = next(line for line in lines if step.name in line)
        new, old, d = (f"{x:+.6f}" for x in (step.new, step.old, step.gradient))
        assert line.split("   ")[1].split() == [new, "=", old, "-", "0.25", "*", d]
    assert len({line.index(" * ") for line in lines if " = " in line and " * " in line and "[" in line}) == 1
    assert f"{told.loss_before:.6f}" in text
    assert f"{told.loss_after:.6f}" in text
    assert f"{told.losses[30]:.6f}" in lines[-1]
    assert text.isascii()


def test_a_step_that_goes_much_too_far_is_told(pair):
    model, tokenizer = pair
    told = explain_step(model, tokenizer, TEXT, lr=1e6, steps=3)
    assert "went too far" in str(told) or "no number" in str(told)


def test_small_steps_are_shown_with_more_digits(pair):
    model, tokenizer = pair
    told = explain_step(model, tokenizer, TEXT, lr=1e-6)
    line = next(line for line in str(told).splitlines() if told.weights[0].name in line)
    new, old = (float(line.split()[i]) for i in (0, 2))
    assert new != old


@pytest.mark.parametrize("lr", [0, -1.0, math.nan, math.inf, 1e7, "0.1", True])
def test_learning_rates_that_cannot_be(pair, lr):
    with pytest.raises(InvalidValueError, match=r"lr is .*such as 0\.1"):
        explain_step(*pair, TEXT, lr=lr)


def test_what_cannot_be_explained(pair):
    model, tokenizer = pair
    for name in ("steps", "weights"):
        for value in (0, 1.5, True):
            with pytest.raises(InvalidValueError, match=name):
                explain_step(model, tokenizer, TEXT, **{name: value})
    for text in ("t", TEXT * 2):
        with pytest.raises(DataError, match="2 to 23 tokens"):
            explain_step(model, tokenizer, text)
    model.add_adapter(LoraConfig(r=2))
    with pytest.raises(ConfigError, match="explain_step: adapters"):
        explain_step(model, tokenizer, TEXT)


@pytest.mark.parametrize("text", ["", "a", 3])
def test_a_tiny_model_needs_two_characters(text):
    with pytest.raises(subgpt.InvalidValueError, match="two characters"):
        tiny_model(text)
