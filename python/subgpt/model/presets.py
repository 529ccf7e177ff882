"""Model sizes as data: a name, and what `GPTConfig` fields it stands for.

There is one dial: `d4`, `d6`, `d12` … are models of so many blocks of today's kind (`MODERN`), 64 times as
wide, with heads of 64; nanochat's `--depth`. Beside it there are sizes with names. Those below "gpt2" are
ours and meant for a CPU; parameter counts are with the vocabulary shown. They have GPT-2's own block (tanh
GELU, biases, tied embeddings), so that a saved model opens in any program that knows GPT-2. The gpt2 sizes are
Table 2 of Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).
"""

import re
from typing import Any

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

MAX_DEPTH = 48
HEAD_DIM = 64

MODERN: dict[str, Any] = {
    "norm": "rms_norm",
    "position": "rotary",
    "qk_norm": True,
    "mlp": "gated",
    "activation": "silu",
    "bias": False,
    "tie_embeddings": True,
}
"""The block of `d1` to `d48` and of `nano-modern`."""

_SMALL: dict[str, Any] = {"vocab_size": 8192, "activation": "gelu_new"}
_GPT2: dict[str, Any] = {"vocab_size": 50257, "block_size": 1024, "activation": "gelu_new"}

PRESETS: dict[str, dict[str, Any]] = {
    # 1.9 M parameters, 1.3 M with 4096 tokens: minutes on two cores.
    "nano": {**_SMALL, "n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 128},
    # 4.3 M: a coffee break to an hour.
    "micro": {**_SMALL, "n_layer": 6, "n_head": 6, "n_embd": 192, "block_size": 256},
    # 13.9 M: nanoGPT's Shakespeare size; some hours on a laptop.
    "mini": {**_SMALL, "n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256},
    # 29.7 M: a night on a desktop.
    "small": {**_SMALL, "n_layer": 8, "n_head": 8, "n_embd": 512, "block_size": 512},
    # 60.0 M: days, or fine-tuning.
    "base": {**_SMALL, "vocab_size": 16384, "n_layer": 10, "n_head": 10, "n_embd": 640, "block_size": 512},
    # nanoGPT's configuration for a CPU (README, "I only have a macbook"): 0.8 M at character level.
    "nanogpt-cpu": {
        "vocab_size": 65,
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "block_size": 64,
        "bias": False,
    },
    # nanogpt-cpu's budget with today's block: 0.8 M, without the table of positions.
    "nano-modern": {
        **MODERN,
        "vocab_size": 65,
        "n_layer": 4,
        "n_head": 4,
        "n_embd": 128,
        "block_size": 64,
    },
    "gpt2": {**_GPT2, "n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {**_GPT2, "n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {**_GPT2, "n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {**_GPT2, "n_layer": 48, "n_head": 25, "n_embd": 1600},
}


def preset_values(name: str) -> dict[str, Any]:
    """Give the fields of the preset called `name`: a named one, or `d` and a depth from 1 to 48.

    >>> preset_values("d6")["n_embd"], preset_values("d6")["n_head"]
    (384, 6)
    >>> preset_values("d99")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: GPTConfig: there is no preset 'd99'; depths go from d1 to d48
    >>> preset_values("nanno")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: GPTConfig: there is no preset 'nanno'; did you mean 'nano'?
    """
    if name in PRESETS:
        return PRESETS[name]
    depth = re.fullmatch(r"d([0-9]{1,9})", str(name))
    if depth is None:
        known = (*PRESETS, "d4", "d6", "d12")
        raise ConfigError(f"GPTConfig: there is no preset {name!r}; {did_you_mean(str(name), known)}")
    if not 1 <= int(depth[1]) <= MAX_DEPTH:
        raise ConfigError(f"GPTConfig: there is no preset {name!r}; depths go from d1 to d{MAX_DEPTH}")
    return by_depth(int(depth[1]))


def by_depth(depth: int) -> dict[str, Any]:
    """Give the fields of a model of `depth` blocks; the longest text grows with it, as its reader does."""
    return {
        **MODERN,
        "vocab_size": 8192,
        "n_layer": depth,
        "n_head": depth,
        "n_embd": HEAD_DIM * depth,
        "block_size": 256 if depth <= 6 else 512 if depth <= 12 else 1024,
    }


def listed() -> str:
    """List the presets for a help text."""
    return f"{', '.join(PRESETS)}; or by depth, d1 to d{MAX_DEPTH}"
