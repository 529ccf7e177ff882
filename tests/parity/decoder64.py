"""A decoder in NumPy, float64 throughout, that keeps what it makes on the way; read off transformers' formulas.

It reads `config.json` as transformers wrote it and the weights under transformers' names, so that it shares nothing
with the code under test but the file format. GPT-2, Llama, Mistral, Gemma 2 and Qwen 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Inside:
    """Of one sequence: states (n_layer + 1, T, C), maps (n_layer, H, T, T), lens (n_layer + 1, T, V)."""

    states: list[np.ndarray] = field(default_factory=list)
    maps: list[np.ndarray] = field(default_factory=list)
    lens: list[np.ndarray] = field(default_factory=list)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu_new(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def capped(x: np.ndarray, cap: float | None) -> np.ndarray:
    return x if cap is None else cap * np.tanh(x / cap)


def attend(q: np.ndarray, k: np.ndarray, scale: float, cap: float | None, window: int | None) -> np.ndarray:
    """Probabilities (H, T, T) of q (H, T, D) and k (KV, T, D)."""
    k = np.repeat(k, len(q) // len(k), axis=0)
    scores = capped(scale * q @ k.transpose(0, 2, 1), cap)
    distance = np.subtract.outer(np.arange(q.shape[1]), np.arange(q.shape[1]))
    seen = (distance >= 0) & (distance < (window or q.shape[1]))
    return softmax(np.where(seen, scores, -np.inf))


def heads(x: np.ndarray, count: int) -> np.ndarray:
    """(T, count * D) -> (count, T, D)"""
    return x.reshape(len(x), count, -1).transpose(1, 0, 2)


def joined(x: np.ndarray) -> np.ndarray:
    """(H, T, D) -> (T, H * D)"""
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def gpt2(config: dict[str, Any], w: dict[str, np.ndarray], ids: np.ndarray) -> Inside:
    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["layer_norm_epsilon"])
        return x * w[f"transformer.{name}.weight"] + w[f"transformer.{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"transformer.{name}.weight"] + w[f"transformer.{name}.bias"]

    seen, count = Inside(), config["n_head"]
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]
    for layer in range(config["n_layer"]):
        seen.states.append(x)
        h = f"h.{layer}"
        q, k, v = (
            heads(part, count) for part in np.split(linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn"), 3, -1)
        )
        p = attend(q, k, q.shape[-1] ** -0.5, None, None)
        seen.maps.append(p)
        x = x + linear(joined(p @ v), f"{h}.attn.c_proj")
        x = x + linear(gelu_new(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")), f"{h}.mlp.c_proj")
    seen.states.append(x)
    seen.lens = [norm(x, "ln_f") @ w["transformer.wte.weight"].T for x in seen.states]
    return seen


def rotated(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotate the halves of each head of x (H, T, D) by the position."""
    half = x.shape[-1] // 2
    angles = np.outer(np.arange(x.shape[1]), theta ** (-np.arange(half) / half))
    a, b = x[..., :half], x[..., half:]
    return np.concatenate(
        [a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1
    )


def llama(config: dict[str, Any], w: dict[str, np.ndarray], ids: np.ndarray) -> Inside:
    """Llama, and Mistral, Qwen 3 and Gemma 2, which add to it."""
    kind = config["model_type"]
    gemma = kind == "gemma2"
    activate = gelu_new if gemma else silu

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return x * (w[f"model.{name}.weight"] + gemma)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"model.{name}.weight"].T

    seen, count, few = Inside(), config["num_attention_heads"], config["num_key_value_heads"]
    scale = (config["query_pre_attn_scalar"] if gemma else config["head_dim"]) ** -0.5
    x = w["model.embed_tokens.weight"][ids] * (config["hidden_size"] ** 0.5 if gemma else 1)
    for layer in range(config["num_hidden_layers"]):
        seen.states.append(x)
        h = f"layers.{layer}"
        y = norm(x, f"{h}.input_layernorm")
        q, k, v = (
            heads(linear(y, f"{h}.self_attn.{name}_proj"), n)
            for name, n in (("q", count), ("k", few), ("v", few))
        )
        if kind == "qwen3":
            q, k = norm(q, f"{h}.self_attn.q_norm"), norm(k, f"{h}.self_attn.k_norm")
        q, k = (rotated(part, config["rope_parameters"]["rope_theta"]) for part in (q, k))
        slides = config.get("layer_types", ["sliding_attention"] * (layer + 1))[layer] == "sliding_attention"
        window = config.get("sliding_window") if slides else None
        p = attend(q, k, scale, config.get("attn_logit_softcapping"), window)
        seen.maps.append(p)
        y = linear(joined(p @ np.repeat(v, count // few, axis=0)), f"{h}.self_attn.o_proj")
        x = x + (norm(y, f"{h}.post_attention_layernorm") if gemma else y)
        y = norm(x, f"{h}.{'pre_feedforward' if gemma else 'post_attention'}_layernorm")
        y = activate(linear(y, f"{h}.mlp.gate_proj")) * linear(y, f"{h}.mlp.up_proj")
        y = linear(y, f"{h}.mlp.down_proj")
        x = x + (norm(y, f"{h}.post_feedforward_layernorm") if gemma else y)
    seen.states.append(x)
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    seen.lens = [capped(norm(x, "norm") @ head.T, config.get("final_logit_softcapping")) for x in seen.states]
    return seen


def inside(config: dict[str, Any], weights: dict[str, np.ndarray], ids: np.ndarray) -> Inside:
    """Run one sequence `ids` (T,)."""
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    return (gpt2 if config["model_type"] == "gpt2" else llama)(config, weights, ids)
