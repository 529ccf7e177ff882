"""Texts packed into rows train as if each had a row to itself, whatever their lengths and the model's block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subgpt import GPT, GPTConfig
from subgpt.data import IGNORED, PackedLoader, TokenExample
from subgpt.data.documents import Origin
from subgpt.data.examples import evaluation_example_batches

BLOCK = 40
SHAPE = {"vocab_size": 13, "block_size": BLOCK, "n_layer": 2, "n_head": 2, "n_embd": 12}
MODERN = {
    **SHAPE,
    "norm": "rms_norm",
    "position": "rotary",
    "qk_norm": True,
    "mlp": "gated",
    "activation": "silu",
    "bias": False,
    "n_kv_head": 1,
}
WINDOWED = {**MODERN, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}


def lively(shape):
    """Give a model whose matrices are large enough for a wrong mask to matter."""
    model = GPT(GPTConfig(**shape), seed=3)
    model.load_state_dict(
        {name: 10 ** (value.ndim - 1) * value for name, value in model.state_dict().items()}
    )
    return model


@st.composite
def examples(draw):
    made = []
    for length in draw(st.lists(st.integers(2, BLOCK + 1), min_size=1, max_size=8)):
        ids = np.array(draw(st.lists(st.integers(0, 12), min_size=length, max_size=length)), dtype=np.uint32)
        made.append(TokenExample(ids, np.arange(length) >= draw(st.integers(1, length - 1)), Origin("x", 1)))
    return made


@pytest.mark.parametrize("shape", [SHAPE, MODERN, WINDOWED])
@settings(max_examples=25, deadline=None)
@given(made=examples(), seed=st.integers(0, 99))
def test_packed_and_alone_are_the_same(shape, made, seed):
    loader = PackedLoader(made, block_size=BLOCK, batch_size=1, seed=seed)
    packed = [loader.batch(step) for step in range(len(loader))]
    alone = list(evaluation_example_batches(made, block_size=BLOCK, batch_size=1))
    total = sum(int((y != IGNORED).sum()) for _, y in alone)

    def trained(batches):
        model, loss = lively(shape), 0.0
        for x, y, documents in batches:
            share = int((y != IGNORED).sum()) / total
            loss += share * model.loss(x, y, documents=documents)
            model.backward(x, y, scale=share, documents=documents)
        return loss, model.grads()

    loss, grads = trained((batch.x, batch.y, batch.segments) for batch in packed)
    own_loss, own_grads = trained((x, y, None) for x, y in alone)
    assert loss == pytest.approx(own_loss, rel=1e-5)
    largest = max(float(np.abs(g).max()) for g in own_grads.values())
    for name, grad in grads.items():
        assert np.abs(grad - own_grads[name]).max() <= 1e-5 * largest, name
