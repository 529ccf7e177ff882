"""A block of every architecture that llama.cpp has and we have, as changes of a `GPTConfig` of four blocks."""

LLAMA = {"norm": "rms_norm", "position": "rotary", "mlp": "gated", "activation": "silu", "bias": False}
GEMMA = {
    **LLAMA, "activation": "gelu_new", "norm_unit_offset": True, "post_norm": True, "scale_embeddings": True,
    "head_dim": 32, "sliding_window": 16,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 32, "low_freq_factor": 1, "high_freq_factor": 4,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
SLIDES, FULL = "sliding_attention", "full_attention"
BLOCKS = {
    "gpt2": {"activation": "gelu_new"},
    "gpt2-no-bias": {"activation": "gelu_new", "bias": False, "tie_embeddings": False},
    "llama": {**LLAMA, "n_kv_head": 2, "tie_embeddings": False},
    "llama-llama3": {**LLAMA, "head_dim": 32, "rope_scaling": LLAMA3, "rope_theta": 5e5},
    "llama-linear": {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 4}},
    "qwen2": {**LLAMA, "qkv_bias": True, "n_kv_head": 1},
    "qwen3": {**LLAMA, "qk_norm": True, "head_dim": 32, "rope_theta": 1e6},
    "arcee": {**LLAMA, "mlp": "plain", "activation": "relu2", "n_kv_head": 2, "tie_embeddings": False},
    "smollm3": {**LLAMA, "rope_layers": [True, True, True, False]},
    "gemma2": {**GEMMA, "layer_types": [SLIDES, FULL] * 2, "attn_softcap": 50, "logit_softcap": 30},
    "gemma3": {
        **GEMMA, "qk_norm": True, "layer_types": [SLIDES] * 4, "rope_theta": 1e6, "rope_local_theta": 1e4,
    },
}  # fmt: skip
