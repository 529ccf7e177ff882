"""One step of each optimizer, against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from subgpt import GPT, SGD, AdamW, ConfigError, Lion, Muon

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


def test_two_steps_of_lion(model):
    before, (first, second), after = steps(model, Lion(model, 0.01, weight_decay=0.5), 2)
    for name, weight in before.items():
        shrink = 1 - 0.01 * 0.5 if weight.ndim >= 2 else 1.0
        expected = weight * shrink - 0.01 * np.sign(first[name])
        expected = expected * shrink - 0.01 * np.sign(0.9 * 0.01 * first[name] + 0.1 * second[name])
        assert np.allclose(after[name], expected, atol=1e-6), name


@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
def test_the_first_step_of_muon(model, adjust_lr):
    optimizer = Muon(model, 0.1, adam_learning_rate=0.01, weight_decay=0.5, adjust_lr=adjust_lr)
    before, (grads,), after = steps(model, optimizer, 1)
    for name, weight in before.items():
        if weight.ndim < 2 or ".h." not in name:
            shrink = 1 - 0.01 * 0.5 if weight.ndim >= 2 else 1.0
            expected = weight * shrink - 0.01 * grads[name] / (np.abs(grads[name]) + 1e-8)
            assert np.allclose(after[name], expected, atol=1e-6), name
            continue
        for part in np.split(np.arange(weight.shape[1]), 3 if "c_attn" in name else 1):
            n_in, n_out = weight[:, part].shape
            scale = max(1, n_out / n_in) ** 0.5 if adjust_lr == "original" else 0.2 * max(n_out, n_in) ** 0.5
            change = (weight * (1 - 0.1 * 0.5) - after[name])[:, part] / (0.1 * scale)
            u, values, vt = np.linalg.svd(grads[name][:, part].astype(np.float64), full_matrices=False)
            along = np.einsum(
                "ij,ij->j", u, change @ vt.T
            )  # the change in terms of the gradient's directions
            reached = values > 3e-3 * np.linalg.norm(values)
            assert ((along[reached] > 0.67) & (along[reached] < 1.21)).all(), name
            assert np.abs(change - u * along @ vt).max() < 1e-3, name


def test_muons_rates_keep_their_proportion(model):
    table = "transformer.wte.weight"
    changes = {}
    for rate in (None, 0.01):
        before, _ = model.state_dict(), model.backward(X, Y)
        Muon(model, 0.02, weight_decay=0.0).step(rate)
        changes[rate] = np.abs(model.state_dict()[table] - before[table]).max()
        model.zero_grad()
    assert changes[None] == pytest.approx(0.001, rel=1e-2)  # a twentieth of Muon's
    assert changes[0.01] == pytest.approx(0.0005, rel=1e-2)


def test_clipping_waits_for_the_step_unseen(model):
    model.backward(X, Y)
    grads = model.grads()
    norm = model.clip_grad_norm(0.1)
    before = model.state_dict()
    SGD(model, 1.0).step()
    for name, weight in model.state_dict().items():
        assert np.allclose(before[name] - weight, grads[name] * (0.1 / norm), atol=1e-6), name
        assert np.allclose(model.grads()[name], grads[name] * (0.1 / norm), atol=1e-7), name
    assert model.grad_norm() == pytest.approx(0.1, rel=1e-4)
    model.zero_grad()
    assert model.grad_norm() == 0.0
    assert not any(grad.any() for grad in model.grads().values())


def test_an_optimizer_of_a_share_leaves_the_other_weights_alone(model):
    """Of the flat gradient, in the order of tensors: here of the first half of the first of them."""
    optimizer = AdamW(model, 0.1)
    steps(model, optimizer, 2)
    name, weight = next(iter(model.state_dict().items()))
    half = weight.size // 2
    optimizer.restrict([(0, half)])
    assert optimizer.steps == 0
    before, (grads,), after = steps(model, optimizer, 1)
    moved = after[name].ravel() != before[name].ravel()
    assert moved[:half].tolist() == (grads[name].ravel()[:half] != 0).tolist()
    assert moved[:half].any()
    assert not moved[half:].any()
    assert all(np.array_equal(after[other], before[other]) for other in before if other != name)
    optimizer.restrict(None)
    before, _, after = steps(model, optimizer, 1)
    assert all((after[name] != before[name]).any() for name in before)


def test_a_step_may_have_its_own_rate_and_steps_are_counted(model):
    optimizer = AdamW(model, 0.01)
    before = model.state_dict()
    model.backward(X, Y)
    optimizer.step(0.0)
    assert optimizer.steps == 1
    assert all(np.array_equal(before[name], value) for name, value in model.state_dict().items())


BETAS = {"betas": [(1.0, 0.9), (-0.1, 0.9)]}
DECAY = {"weight_decay": [-1, float("inf"), True, "much"], "decay": ["matrix"]}


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        (SGD, {"momentum": [1.0, -0.1], "weight_decay": DECAY["weight_decay"]}),
        (AdamW, {**BETAS, **DECAY, "eps": [-1.0, 1.0]}),
        (Lion, {**BETAS, **DECAY}),
        (
            Muon,
            {
                **BETAS,
                **DECAY,
                "eps": [-1.0, 1.0],
                "momentum": [1.0],
                "adam_learning_rate": [-1.0],
                "adjust_lr": ["matched"],
            },
        ),
    ],
)
def test_what_an_optimizer_cannot_be_given_is_named(model, kind, refused):
    for rate in (-0.1, float("nan"), float("inf"), None):
        with pytest.raises(
            ConfigError, match=rf"^optimizer: learning_rate = {rate}; give a number in \[0, inf\)$"
        ):
            kind(model, rate)
    for name, values in refused.items():
        for value in values:
            shown = rf"betas\[0\] = {value[0]}" if name == "betas" else f"{name} = {value!r}"
            with pytest.raises(ConfigError, match=f"^optimizer: {shown}; "):
                kind(model, 0.1, **{name: value})
    with pytest.raises(ConfigError, match=r"^optimizer: model is str; give a GPT$"):
        kind("model", 0.1)
    with pytest.raises(ConfigError, match=r"^optimizer: learning_rate = -1; "):
        kind(model, 0.1).step(-1)


def test_a_choice_that_is_nearly_right_is_told_the_right_one(model):
    with pytest.raises(ConfigError, match=r"^optimizer: decay = 'matrix'; did you mean 'matrices'\?"):
        Lion(model, 0.1, decay="matrix")


def test_betas_are_two_and_the_second_is_named_too(model):
    for betas in (0.9, (0.9,), (0.9, 0.9, 0.9)):
        with pytest.raises(
            ConfigError, match=r"^optimizer: betas = .*; give two numbers, such as \(0\.9, 0\.95\)$"
        ):
            AdamW(model, 0.1, betas=betas)
    with pytest.raises(ConfigError, match=r"^optimizer: betas\[1\] = 1\.0; give a number in \[0, 1\)$"):
        Lion(model, 0.1, betas=(0.9, 1.0))


def test_muon_has_no_rate_of_nothing(model):
    with pytest.raises(
        ConfigError, match=r"^optimizer: learning_rate = 0; give Muon a number above 0, and 0 to step"
    ):
        Muon(model, 0.0)


@pytest.mark.parametrize("kind", [AdamW, Lion, Muon])
def test_without_a_word_about_it_matrices_decay_by_a_tenth(model, kind):
    def end_of(**options):
        copy = GPT(model.config, seed=3)
        return steps(copy, kind(copy, 0.1, **options), 1)[2]

    plain, said = end_of(), end_of(weight_decay=0.1, decay="matrices")
    assert all(np.array_equal(plain[name], said[name]) for name in plain)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: AdamW(m, 1e-2, weight_decay=0.0),
        lambda m: Lion(m, 3e-3, weight_decay=0.0),
        lambda m: Muon(m, 2e-2, adam_learning_rate=1e-2, weight_decay=0.0),
    ],
)
def test_a_tiny_model_memorises_a_batch(tiny, make):
    model = GPT(tiny(), seed=3)
    optimizer = make(model)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.config.vocab_size, (4, 17))
    for _ in range(400):
        loss = model.backward(ids[:, :-1], ids[:, 1:])
        model.clip_grad_norm(1.0)
        optimizer.step()
        model.zero_grad()
    assert loss < 0.05
