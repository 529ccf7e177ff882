"""What is seen inside models of any block: attention is a causal distribution, the last lens is the head."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from subgpt import GPT, GPTConfig

VOCAB = 13


@st.composite
def models(draw) -> GPT:
    kv = draw(st.sampled_from([1, 2, 4]))
    shape = {"vocab_size": VOCAB, "block_size": 24, "n_layer": 2, "n_head": 4, "n_embd": 16, "n_kv_head": kv}
    if draw(st.booleans()):
        shape |= {
            "norm": "rms_norm",
            "position": "rotary",
            "mlp": "gated",
            "activation": "silu",
            "bias": False,
            "qk_norm": draw(st.booleans()),
            "sliding_window": draw(st.sampled_from([None, 1, 3, 30])),
            "attn_softcap": draw(st.sampled_from([None, 2.0])),
            "post_norm": draw(st.booleans()),
        }
    model = GPT(
        GPTConfig(**shape), seed=draw(st.integers(0, 9)), dtype=draw(st.sampled_from(["float32", "bfloat16"]))
    )
    scale = draw(st.sampled_from([1, 40]))  # fresh weights attend evenly, large ones sharply
    model.load_state_dict({name: scale * value for name, value in model.state_dict().items()})
    return model


@settings(max_examples=60, deadline=None)
@given(models(), st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=24))
def test_attention_is_a_causal_distribution(model: GPT, ids: list[int]) -> None:
    maps = model.attention_maps(ids)
    assert maps.min() >= 0
    assert np.abs(maps.sum(-1) - 1).max() < 1e-5
    distance = np.subtract.outer(np.arange(len(ids)), np.arange(len(ids)))
    seen = (distance >= 0) & (distance < (model.config.sliding_window or 24))
    assert (maps[..., ~seen] == 0).all()
    prefix = model.attention_maps(ids[: len(ids) // 2 + 1])
    t = prefix.shape[-1]
    assert np.abs(maps[..., :t, :t] - prefix).max() < 1e-4, "what comes later changes nothing"


@settings(max_examples=60, deadline=None)
@given(models(), st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=24), st.integers(1, VOCAB))
def test_the_last_lens_is_the_head(model: GPT, ids: list[int], k: int) -> None:
    lens = model.logit_lens(ids)
    assert np.array_equal(lens[-1], model.forward(ids))
    best, probs = model.logit_lens(ids, k=k)
    assert np.array_equal(best, np.argsort(-lens, axis=-1, kind="stable")[..., :k])
    assert (np.diff(probs, axis=-1) <= 0).all()
    assert probs.sum(-1).max() < 1 + 1e-5
    assert np.isfinite(model.hidden_states(ids)).all()
