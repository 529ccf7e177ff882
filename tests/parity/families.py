"""Small models of every family that transformers has and we have: tied or not, odd head counts, far positions."""

from __future__ import annotations

import numpy as np

from subgpt import GPT, GPTConfig

SHAPE = {"vocab_size": 83, "block_size": 160, "n_layer": 2, "n_head": 3, "n_embd": 36}
LLAMA = {
    "norm": "rms_norm", "position": "rotary", "mlp": "gated", "activation": "silu", "bias": False, "block_size": 2048,
}  # fmt: skip
GEMMA = {
    **LLAMA, "activation": "gelu_new", "norm_unit_offset": True, "post_norm": True, "scale_embeddings": True,
    "norm_eps": 1e-6,
}  # fmt: skip
ARCEE = {**LLAMA, "mlp": "plain", "activation": "relu2"}
FIVE = {"n_head": 5, "n_embd": 50, "n_kv_head": 1}
SEVEN = {"n_head": 7, "n_embd": 42, "n_kv_head": 7}
NINE = {"n_head": 9, "n_embd": 54, "n_kv_head": 3}
SLIDES, FULL = "sliding_attention", "full_attention"
WINDOWS = [SLIDES, FULL]
LLAMA3 = {
    "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4}
UNTIED = {"tie_embeddings": False}

_BLOCKS = {
    "gpt2": {"activation": "gelu_new"},
    "gpt2-untied": {**UNTIED, "n_layer": 3, "n_head": 5, "n_embd": 50, "n_inner": 77, "norm_eps": 1e-6},
    "gpt2-relu2": {"activation": "relu2"},
    "llama": {**LLAMA, **UNTIED, "n_head": 6, "n_embd": 48, "n_kv_head": 2},
    "llama-tied": {**LLAMA, **NINE, "norm_eps": 1e-6, "rope_theta": 1e5},
    "llama-one-kv-head": {**LLAMA, **UNTIED, "n_kv_head": 1, "n_inner": 50},
    "llama-linear": {**LLAMA, "rope_scaling": LINEAR},
    "llama-linear-untied": {**LLAMA, **NINE, **UNTIED, "rope_scaling": {**LINEAR, "factor": 2.5}},
    "llama3-rope": {**LLAMA, "head_dim": 20, "rope_scaling": LLAMA3, "rope_theta": 5e4},
    "llama3-rope-untied": {**LLAMA, **FIVE, **UNTIED, "rope_scaling": {**LLAMA3, "factor": 32}, "rope_theta": 5e5},
    "mistral": {**LLAMA, **UNTIED, "head_dim": 8, "sliding_window": 7},
    "mistral-tied": {**LLAMA, **FIVE, "n_layer": 3, "sliding_window": 11, "rope_theta": 1e6},
    "qwen2": {**LLAMA, "qkv_bias": True, "n_kv_head": 1},
    "qwen2-untied": {**LLAMA, **SEVEN, **UNTIED, "qkv_bias": True, "norm_eps": 1e-6, "rope_theta": 1e6},
    "qwen2-windows": {**LLAMA, "qkv_bias": True, "sliding_window": 9, "layer_types": WINDOWS},
    "qwen3": {**LLAMA, "qk_norm": True},
    "qwen3-untied": {**LLAMA, **UNTIED, "qk_norm": True, "head_dim": 14, "rope_theta": 5e4},
    "qwen3-windows": {**LLAMA, **NINE, "qk_norm": True, "sliding_window": 8, "layer_types": [FULL, SLIDES]},
    "arcee": {**ARCEE, "n_kv_head": 1, "n_inner": 100},
    "arcee-untied": {**ARCEE, **NINE, **UNTIED, "norm_eps": 1e-6, "rope_theta": 5e4},
    "smollm3": {**LLAMA, "n_kv_head": 1, "rope_layers": [True, False]},
    "smollm3-untied": {**LLAMA, **NINE, **UNTIED, "n_layer": 4, "rope_layers": [True, True, True, False]},
    "smollm3-windows": {**LLAMA, "rope_layers": [False, True], "sliding_window": 5, "layer_types": WINDOWS},
    "gemma2": {
        **GEMMA, "head_dim": 8, "n_kv_head": 1, "sliding_window": 6, "layer_types": WINDOWS, "attn_softcap": 3,
        "logit_softcap": 5, "query_pre_attn_scalar": 17,
    },
    "gemma2-uncapped": {**GEMMA, **FIVE, **UNTIED, "sliding_window": 6, "layer_types": WINDOWS},
    "gemma3": {
        **GEMMA, "qk_norm": True, "head_dim": 10, "sliding_window": 6, "layer_types": WINDOWS, "rope_theta": 1e5,
        "rope_scaling": LINEAR, "rope_local_theta": 1e3,
    },
    "gemma3-untied": {
        **GEMMA, **NINE, **UNTIED, "qk_norm": True, "n_layer": 3, "sliding_window": 9,
        "layer_types": [SLIDES, SLIDES, FULL], "rope_theta": 1e6, "rope_local_theta": 1e4, "query_pre_attn_scalar": 24,
    },
}  # fmt: skip

FAMILIES = {name: GPTConfig(**{**SHAPE, **block}) for name, block in _BLOCKS.items()}


def lively(config: GPTConfig, seed: int = 5) -> GPT:
    """Make a model whose weights are large enough for every part to matter."""
    model = GPT(config, seed=seed)
    rng = np.random.default_rng(seed)
    model.load_state_dict(
        {k: x + rng.normal(0, 0.1, x.shape).astype("f4") for k, x in model.state_dict().items()}
    )
    return model
