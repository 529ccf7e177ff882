"""Backward kernels against central differences of the forward; paths and threads against each other.

The forward runs in float32, so a difference quotient carries rounding noise of about eps |f| / h. The projection onto
one random direction keeps the true derivative large against it: a missing or wrong term is off by its own size.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import subgpt
from subgpt import ops

SIZES = st.sampled_from([1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 33, 48, 67])
SEEDS = st.integers(0, 2**32 - 1)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def check_gradients(
    forward: Callable[..., np.ndarray],
    backward: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    inputs: list[np.ndarray],
    rng: np.random.Generator,
    h: float = 1e-2,
    tolerance: float = 4e-3,
) -> None:
    """sum(up * f(x + h d)) - sum(up * f(x - h d)) over 2h must equal <gradient, d>, for each input by itself."""
    up = normal(rng, *forward(*inputs).shape)
    grads = backward(up)
    assert len(grads) == len(inputs)
    for i, (x, grad) in enumerate(zip(inputs, grads, strict=True)):
        assert grad.shape == x.shape
        # Along the gradient the derivative is as large as it can be; a random part sees what the gradient lacks.
        d = grad / (np.linalg.norm(grad) + 1e-20) + normal(rng, *x.shape) / np.sqrt(x.size)
        d = (d / np.linalg.norm(d) * min(1.0, np.sqrt(x.size) / 4)).astype(np.float32)
        moved = [[*inputs[:i], (x + s * h * d).astype(np.float32), *inputs[i + 1 :]] for s in (1, -1)]
        plus, minus = (float((up * forward(*m).astype(np.float64)).sum()) for m in moved)
        want = (plus - minus) / (2 * h)
        got = float((grad.astype(np.float64) * ((moved[0][i] - moved[1][i]) / (2 * h))).sum())
        noise = 2e-7 * float(np.abs(up * forward(*inputs)).sum()) / h
        scale = float(np.linalg.norm(grad) * np.linalg.norm(d))
        assert abs(got - want) <= tolerance * scale + noise + 1e-4, (i, got, want)


@given(m=SIZES, k=SIZES, n=SIZES, seed=SEEDS)
def test_matmul(m, k, n, seed):
    rng = np.random.default_rng(seed)
    a, b = normal(rng, m, k), normal(rng, k, n)
    np.testing.assert_allclose(ops.matmul(a, b), a.astype(np.float64) @ b, rtol=0, atol=1e-5 * k**0.5 * 4)
    check_gradients(ops.matmul, lambda up: ops.matmul_backward(a, b, up), [a, b], rng)


@given(n=SIZES, c=SIZES, seed=SEEDS, log=st.booleans())
def test_softmax(n, c, seed, log):
    rng = np.random.default_rng(seed)
    forward = ops.log_softmax if log else ops.softmax
    backward = ops.log_softmax_backward if log else ops.softmax_backward
    x = normal(rng, n, c) * 2
    check_gradients(forward, lambda up: (backward(forward(x), up),), [x], rng)


@given(n=SIZES, c=SIZES.filter(lambda c: c > 2), seed=SEEDS)
def test_layer_norm(n, c, seed):
    rng = np.random.default_rng(seed)
    inputs = [normal(rng, n, c) + 1, 1 + 0.3 * normal(rng, c), normal(rng, c)]
    check_gradients(
        ops.layer_norm,
        lambda up: ops.layer_norm_backward(*inputs[:2], up),
        inputs,
        rng,
        h=3e-3,
        tolerance=2e-2,
    )


@given(n=SIZES, c=SIZES.filter(lambda c: c > 2), seed=SEEDS, offset=st.sampled_from([0.0, 1.0]))
def test_rms_norm(n, c, seed, offset):
    rng = np.random.default_rng(seed)
    inputs = [normal(rng, n, c), 1 + 0.3 * normal(rng, c)]
    check_gradients(
        lambda x, w: ops.rms_norm(x, w, offset=offset),
        lambda up: ops.rms_norm_backward(*inputs, up, offset=offset),
        inputs,
        rng,
        h=3e-3,
        tolerance=2e-2,
    )


@given(n=SIZES, c=SIZES, seed=SEEDS, kind=st.sampled_from(["none", "tanh", "silu"]))
def test_activations(n, c, seed, kind):
    rng = np.random.default_rng(seed)
    x = normal(rng, n, c) * 2
    if kind == "silu":
        check_gradients(ops.silu, lambda up: (ops.silu_backward(x, up),), [x], rng)
    else:
        check_gradients(lambda x: ops.gelu(x, kind), lambda up: (ops.gelu_backward(x, up, kind),), [x], rng)


@given(n=SIZES, c=SIZES, seed=SEEDS)
def test_swiglu(n, c, seed):
    rng = np.random.default_rng(seed)
    inputs = [normal(rng, n, c), normal(rng, n, c)]
    check_gradients(ops.swiglu, lambda up: ops.swiglu_backward(*inputs, up), inputs, rng)
    check_gradients(ops.geglu, lambda up: ops.geglu_backward(*inputs, up), inputs, rng)


@given(t=SIZES, d=SIZES.map(lambda d: 2 * d), seed=SEEDS, interleaved=st.booleans())
def test_rope(t, d, seed, interleaved):
    rng = np.random.default_rng(seed)
    x, positions = normal(rng, 2, t, d), rng.integers(0, 5000, t)
    y = ops.rope(x, positions, interleaved=interleaved)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)
    back = ops.rope_backward(y, positions, interleaved=interleaved)  # a rotation's transpose is its inverse
    np.testing.assert_allclose(back, x, atol=1e-5)


@given(
    b=st.integers(1, 2),
    groups=st.integers(1, 3),
    kv=st.integers(1, 2),
    t=SIZES,
    cached=st.integers(0, 20),
    d=SIZES,
    seed=SEEDS,
    window=st.none() | st.integers(1, 40),
    softcap=st.none() | st.just(3.0),
)
def test_attention(b, groups, kv, t, cached, d, seed, window, softcap):
    rng = np.random.default_rng(seed)
    inputs = [
        normal(rng, b, groups * kv, t, d),
        normal(rng, b, kv, t + cached, d),
        normal(rng, b, kv, t + cached, d),
    ]
    options = {"window": window, "softcap": softcap}
    check_gradients(
        lambda q, k, v: ops.attention(q, k, v, **options),
        lambda up: ops.attention_backward(*inputs, up, **options),
        inputs,
        rng,
    )


@given(n=SIZES, v=SIZES.filter(lambda v: v > 1), seed=SEEDS, smoothing=st.sampled_from([0.0, 0.1]))
def test_cross_entropy(n, v, seed, smoothing):
    rng = np.random.default_rng(seed)
    logits, targets = normal(rng, n, v) * 2, rng.integers(0, v, n)
    targets[rng.random(n) < 0.3] = -100
    options = {"label_smoothing": smoothing}

    def backward(up):
        return (ops.cross_entropy_backward(logits, targets, **options) * up[:, None],)

    check_gradients(lambda z: ops.cross_entropy(z, targets, **options), backward, [logits], rng)


@given(v=SIZES, c=SIZES, n=SIZES, seed=SEEDS)
def test_embedding(v, c, n, seed):
    rng = np.random.default_rng(seed)
    weight, ids = normal(rng, v, c), rng.integers(0, v, n)
    np.testing.assert_array_equal(ops.embedding(weight, ids), weight[ids])
    up = normal(rng, n, c)
    want = np.zeros((v, c))
    np.add.at(want, ids, up)
    np.testing.assert_allclose(ops.embedding_backward(ids, up, v), want, atol=1e-5)


@given(n=st.integers(0, 3000), p=st.sampled_from([0.0, 0.1, 0.5, 0.9]), seed=st.integers(0, 2**64 - 1))
def test_dropout_is_replayed_and_keeps_the_mean(n, p, seed):
    x = np.ones(n, np.float32)
    y = ops.dropout(x, p, seed=seed, step=3)
    assert set(np.unique(y)) <= {np.float32(0), np.float32(1 / np.float32(1 - np.float32(p)))}
    np.testing.assert_array_equal(y, ops.dropout_backward(x, p, seed=seed, step=3))
    if n > 1000:
        assert abs((y == 0).mean() - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-9


def everything(seed: int) -> list[np.ndarray]:
    """The result of every kernel on shapes large enough to be split over threads."""
    rng = np.random.default_rng(seed)
    x, up, w = normal(rng, 391, 257), normal(rng, 391, 257), normal(rng, 257)
    q, k, v = (normal(rng, 2, 3, 131, 33) for _ in range(3))
    logits, targets = normal(rng, 391, 1031), rng.integers(0, 1031, 391)
    y = ops.softmax(x)
    return [
        ops.matmul(x, up.T),
        *ops.linear_backward(x, normal(rng, 300, 257), normal(rng, 391, 300)),
        y,
        ops.softmax_backward(y, up),
        ops.layer_norm(x, w, w),
        *ops.layer_norm_backward(x, w, up),
        *ops.rms_norm_backward(x, w, up),
        ops.gelu(x),
        ops.gelu_backward(x, up, "tanh"),
        *ops.swiglu_backward(x, up, up),
        ops.rope(q[..., :32], np.arange(131)),
        ops.attention(q, k, v),
        *ops.attention_backward(q, k, v, normal(rng, 2, 3, 131, 33)),
        ops.cross_entropy(logits, targets),
        ops.cross_entropy_backward(logits, targets),
        ops.embedding_backward(targets, up, 1031),
        ops.dropout(x, 0.3, seed=seed),
    ]


@pytest.mark.usefixtures("every_isa", "threads")
def test_results_have_the_same_bits_for_any_number_of_threads():
    results = []
    for n in (1, 2, 3, 5):
        subgpt.set_num_threads(n)
        results.append(everything(7))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_every_instruction_set_agrees_with_the_portable_path():
    before = subgpt.isa()
    try:
        results = {}
        for isa in subgpt.available_isas():
            subgpt.set_isa(isa)
            results[isa] = everything(11)
    finally:
        subgpt.set_isa(before)
    for isa, arrays in results.items():
        for i, (got, want) in enumerate(zip(arrays, results["portable"], strict=True)):
            scale = np.abs(want).max()
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * scale, err_msg=f"{isa}, result {i}")
    if {"avx2", "avx512"} <= results.keys():
        pairs = zip(results["avx2"], results["avx512"], strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
