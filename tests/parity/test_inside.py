"""What is seen inside a model, against a NumPy decoder in float64 that PyTorch's logits vouch for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from subgpt import load

from .decoder64 import inside

NAMES = ["gpt2", "llama", "llama-tied", "mistral", "gemma2", "qwen3"]


@pytest.fixture(scope="module", params=NAMES)
def case(request, shared: Path):
    folder = shared / "ref" / "models" / request.param
    model, _ = load(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with np.load(folder / "reference.npz") as reference:
        ids, logits = reference["input_ids"], reference["logits_f64"]
    weights = model.state_dict()
    return model, ids, logits, [inside(config, weights, row) for row in ids]


def test_the_decoder_here_is_the_one_of_transformers(case):
    _, _, logits, expected = case
    assert np.abs(np.stack([row.lens[-1] for row in expected]) - logits).max() < 1e-9


def test_hidden_states(case):
    model, ids, _, expected = case
    states = model.hidden_states(ids)
    assert states.shape == (model.config.n_layer + 1, *ids.shape, model.config.n_embd)
    exact = np.stack([row.states for row in expected], 1)
    assert np.abs(states - exact).max() < 1e-4
    assert np.array_equal(model.hidden_states(ids[0]), states[:, 0])


def test_logit_lens(case):
    model, ids, _, expected = case
    lens = model.logit_lens(ids)
    assert np.abs(lens - np.stack([row.lens for row in expected], 1)).max() < 2e-4
    assert np.array_equal(lens[-1], model.forward(ids)), "bit for bit"
    best, probs = model.logit_lens(ids, k=6)
    exact = np.exp(np.asarray(lens, np.float64))
    exact /= exact.sum(-1, keepdims=True)
    assert np.array_equal(best, np.argsort(-lens, axis=-1, kind="stable")[..., :6])
    assert np.abs(probs - np.take_along_axis(exact, best.astype(np.int64), -1)).max() < 1e-6


def test_attention_maps(case):
    model, ids, _, expected = case
    maps = model.attention_maps(ids)
    exact = np.stack([row.maps for row in expected], 1)
    assert maps.shape == exact.shape
    assert np.abs(maps - exact).max() < 1e-5
    assert np.array_equal(maps == 0, exact == 0), "what is not seen is exactly 0"
    assert np.array_equal(model.attention_maps(ids[1]), maps[:, 1])
