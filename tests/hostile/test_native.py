"""No panic reaches Python: wrong shapes, dtypes, strides and values for every bound function.

The rule: a call gives a result, or raises a `SubgptError` (or Python's own TypeError/OverflowError at the signature).
An `InternalError` is a caught panic, and fails the test.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgpt
from subgpt import _core, errors, ops

CONFIG = {
    "vocab_size": 11,
    "block_size": 6,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 8,
    "n_inner": None,
    "bias": True,
    "dropout": 0.0,
    "activation": "gelu",
    "norm_eps": 1e-5,
    "tie_embeddings": True,
}

ALLOWED = (errors.SubgptError, TypeError, OverflowError, ValueError)


def survives(call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    try:
        call(*args, **kwargs)
    except errors.InternalError as error:
        pytest.fail(f"a panic in {call}: {error}")
    except ALLOWED:
        pass


def wild_arrays() -> st.SearchStrategy[Any]:
    """Arrays of any small shape, dtype and layout, and things that are no arrays."""
    shapes = st.lists(st.integers(0, 5), max_size=5).map(tuple)
    dtypes = st.sampled_from(["f4", "f4", "f4", "f8", "f2", "i8", "i4", "u1", "u8", "?", "c8", ">f4"])

    def build(shape: tuple[int, ...], dtype: str, layout: str, value: float) -> np.ndarray:
        with np.errstate(all="ignore"):
            x = np.full(shape, value).astype(dtype)
        if layout == "fortran":
            return np.asfortranarray(x)
        if layout == "reversed":
            return x[::-1] if x.ndim else x
        if layout == "strided":
            return np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x
        if layout == "broadcast":
            return np.broadcast_to(x[:1], x.shape) if x.ndim and x.shape[0] else x
        if layout == "readonly":
            x.setflags(write=False)
        if layout == "unaligned" and x.dtype == np.float32:
            raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
            return raw.view(np.float32).reshape(x.shape) if x.size else x
        return x

    layouts = st.sampled_from(
        ["plain", "fortran", "reversed", "strided", "broadcast", "readonly", "unaligned"]
    )
    values = st.sampled_from([0.0, 1.0, -1.0, 3.0, 1e30, float("nan"), float("inf"), float("-inf")])
    arrays = st.builds(build, shapes, dtypes, layouts, values)
    others = st.sampled_from(
        [None, 1, -1, 2.5, "x", b"y", [], [1, 2], [[1], [2, 3]], object(), [2**70], (-5,)]
    )
    return st.one_of(arrays, arrays, arrays, others)


def callables() -> list[tuple[str, Callable[..., Any]]]:
    """Everything that the native module offers, found by looking: a new function is tested without being listed."""
    model = _core.Model(json.dumps(CONFIG), 1)
    optimizer = _core.Optimizer(model, '{"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}')
    trained = subgpt.Tokenizer.train(iter(["some text to learn from"]), level="char")
    tokenizer = _core.Tokenizer.from_json(trained.to_json())
    session, decoder = model.session(), _core.DecodeStream(tokenizer)
    instances = [model, session, _core.Batch(model), optimizer, tokenizer, decoder]
    assert {type(x) for x in instances} == {x for x in vars(_core).values() if inspect.isclass(x)}

    found = [(f"ops.{name}", getattr(ops, name)) for name in ops.__all__]
    for owner in [_core, _core.ops]:
        found += [(f"{owner.__name__}.{n}", f) for n, f in vars(owner).items() if inspect.isbuiltin(f)]
    for x in instances:
        kind = type(x).__name__
        found.append((kind, type(x)))
        names = [n for n in dir(x) if not n.startswith("_")]
        found += [(f"{kind}.{n}", getattr(x, n)) for n in names if callable(getattr(x, n))]
    return found


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory):
    """Some of the calls write files by whatever name they are given; threads and instruction set are put back."""
    before = Path.cwd(), subgpt.get_num_threads(), subgpt.isa()
    os.chdir(tmp_path_factory.mktemp("native"))
    yield
    os.chdir(before[0])
    subgpt.set_num_threads(before[1])
    subgpt.set_isa(before[2])


@pytest.mark.parametrize(("name", "call"), callables(), ids=[n for n, _ in callables()])
@given(data=st.data())
@settings(max_examples=40)
def test_any_arguments(name, call, data):
    try:
        parameters = inspect.signature(call).parameters.values()
        arity = len([p for p in parameters if p.kind != p.KEYWORD_ONLY])
    except ValueError:
        arity = data.draw(st.integers(0, 6))
    settings = st.sampled_from(
        ['{"temperature": 1}', "{", "", "param", "grad", "transformer.wte.weight", "portable"]
    )
    extra = st.one_of(wild_arrays(), st.booleans(), st.integers(-3, 12), st.floats(), settings)
    args = [data.draw(st.one_of(wild_arrays(), settings) if i < 3 else extra) for i in range(arity)]
    survives(call, *args)


@pytest.mark.parametrize(
    "make",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: np.repeat(x, 3, axis=0)[::3],
        lambda x: x[::-1][::-1],
        lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
    ],
)
def test_layout_does_not_change_results(make):
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal((13, 21)).astype(np.float32) for _ in range(2))
    a, b = make(x), make(y)
    pairs = [
        (ops.matmul(a, b.T), ops.matmul(x, y.T)),
        (ops.softmax(a), ops.softmax(x)),
        (ops.gelu(a), ops.gelu(x)),
        (ops.swiglu(a, b), ops.swiglu(x, y)),
        (ops.layer_norm(a, make(y)[0]), ops.layer_norm(x, y[0])),
        (ops.embedding(a, [3, 1]), ops.embedding(x, [3, 1])),
    ]
    for got, want in pairs:
        np.testing.assert_array_equal(got, want)


def test_inputs_are_never_written():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((5, 7)).astype(np.float32)
    before = x.copy()
    ops.dropout(x, 0.5, seed=1)
    ops.rope(np.ascontiguousarray(x[:, :6]), np.arange(5))
    ops.cross_entropy_backward(x, np.zeros(5, int))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ops.gelu(np.zeros(3)), errors.DtypeError, ["x", "float32", "float64"]),
        (lambda: ops.softmax([1.0, 2.0]), errors.DtypeError, ["x", "list", "np.asarray"]),
        (lambda: ops.linear(np.ones((1, 2), "f4"), [[1.0, 2.0]]), errors.DtypeError, ["weight", "list"]),
        (
            lambda: ops.linear(np.ones((1, 2), "f4"), np.ones((3, 2), "f4"), np.ones(3)),
            errors.DtypeError,
            ["bias", "float32", "float64"],
        ),
        (
            lambda: ops.linear(np.ones((1, 2), "f4"), np.ones((3, 2), "f4"), np.ones(3, "c8")),
            errors.DtypeError,
            ["bias", "float32", "complex64"],
        ),
        (lambda: ops.matmul(np.zeros((2, 3), "f4"), np.zeros((4, 2), "f4")), errors.ShapeError, ["matmul"]),
        (
            lambda: ops.embedding(np.zeros((4, 2), "f4"), [1, 4]),
            errors.InvalidValueError,
            ["4", "vocab_size"],
        ),
        (lambda: ops.embedding(np.zeros((4, 2), "f4"), [-1]), errors.InvalidValueError, ["-1"]),
        (lambda: ops.embedding(np.zeros((4, 2), "f4"), [1.5]), errors.DtypeError, ["integers"]),
        (lambda: ops.embedding(np.zeros((4, 2), "f4"), [True]), errors.DtypeError, ["integers"]),
        (
            lambda: ops.cross_entropy(np.zeros((1, 3), "f4"), [3]),
            errors.InvalidValueError,
            ["3", "ignore_index"],
        ),
        (lambda: ops.dropout(np.zeros(2, "f4"), 1.0, seed=0), errors.InvalidValueError, ["dropout", "p"]),
        (lambda: subgpt.set_num_threads(0), errors.InvalidValueError, ["0", "1024"]),
        (lambda: subgpt.set_num_threads(-3), errors.InvalidValueError, ["-3"]),
        (lambda: subgpt.set_isa("avx9"), errors.InvalidValueError, ["avx9", "portable"]),
    ],
)
def test_messages_name_the_value_and_the_remedy(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
    assert isinstance(caught.value, errors.SubgptError)


def test_model_calls_refuse_what_does_not_fit():
    model = _core.Model(json.dumps(CONFIG), 1)
    x = np.zeros((1, 6), int)
    for call in (
        lambda: model.forward(np.zeros((1, 7), int)),
        lambda: model.forward(np.zeros((1, 0), int)),
        lambda: model.forward(np.zeros((1, 1, 1), int)),
        lambda: model.forward(np.full((1, 2), 11)),
        lambda: model.backward(x, np.zeros((1, 5), int), -100, 1.0),
        lambda: model.backward(x, np.full((1, 6), -100), -100, 1.0),
        lambda: model.backward(x, np.full((1, 6), 11), -100, 1.0),
        lambda: model.clip_grad_norm(-1.0),
        lambda: model.clip_grad_norm(float("nan")),
        lambda: model.tensor("nope", "param"),
        lambda: model.tensor("transformer.wte.weight", "moment"),
        lambda: model.session().sample("{}"),
        lambda: model.next_token_probs([]),
    ):
        with pytest.raises((errors.InvalidValueError, errors.ShapeError)):
            call()
    optimizer = _core.Optimizer(model, '{"name": "sgd", "momentum": 0.0, "weight_decay": 0.0}')
    with pytest.raises(errors.InvalidValueError, match="backward"):
        optimizer.step(model, 0.1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("n_layer", -1),
        ("n_head", 3),
        ("n_embd", 2**40),
        ("dropout", 1.0),
        ("norm_eps", 0.0),
    ],
)
def test_impossible_configurations_are_refused(field, value):
    with pytest.raises(errors.ConfigError):
        _core.Model(json.dumps(CONFIG | {field: value}), 1)


def test_a_model_beyond_memory_is_a_memory_error():
    huge = CONFIG | {"vocab_size": 2**28, "n_embd": 2**20}
    with pytest.raises(errors.OutOfMemoryError):
        _core.Model(json.dumps(huge), 1)


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        (ops.swiglu, [(2, 3), (3, 2)]),
        (ops.geglu, [(2, 3), (6,)]),
        (ops.swiglu_backward, [(2, 3), (2, 3), (3, 2)]),
        (ops.geglu_backward, [(2, 3), (3, 2), (2, 3)]),
        (ops.silu_backward, [(2, 3), (6,)]),
        (ops.gelu_backward, [(2, 3), (3, 2)]),
        (ops.softmax_backward, [(2, 2, 3), (4, 3)]),
        (ops.log_softmax_backward, [(4, 3), (2, 2, 3)]),
        (ops.layer_norm_backward, [(4, 3), (3,), (2, 2, 3)]),
        (ops.rms_norm_backward, [(2, 2, 3), (3,), (4, 3)]),
        (ops.linear_backward, [(2, 3), (4, 3), (5, 4)]),
        (ops.linear_backward, [(2, 2, 3), (4, 3), (4, 4)]),
        (ops.linear_backward, [(2, 3), (3,), (2, 4)]),
    ],
)
def test_as_many_numbers_in_another_shape_are_refused(op, shapes):
    with pytest.raises(errors.ShapeError, match=rf"{op.__name__}: \w+ has shape"):
        op(*(np.zeros(shape, "f4") for shape in shapes))


def test_each_id_has_a_gradient_at_its_place():
    with pytest.raises(errors.ShapeError, match=r"dout has shape \(3, 2, 4\), expected \(2, 3, C\)"):
        ops.embedding_backward(np.zeros((2, 3), int), np.zeros((3, 2, 4), "f4"), 5)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4), (0, 0, 4), (0, 2, 4)])
def test_no_positions_are_rotated_to_none(shape):
    for op in (ops.rope, ops.rope_backward):
        assert op(np.zeros(shape, "f4"), np.arange(shape[-2])).shape == shape


@pytest.mark.parametrize("op", [ops.cross_entropy, ops.cross_entropy_backward])
def test_each_row_of_logits_has_a_target_at_its_place(op):
    with pytest.raises(errors.ShapeError, match=r"targets has shape \(6,\), expected \(2, 3\)"):
        op(np.zeros((2, 3, 5), "f4"), np.zeros(6, int))
