"""Model sizes as data: a name, and what `GPTConfig` fields it stands for.

Everything below "gpt2" is ours and meant for a CPU; parameter counts are with the vocabulary shown. The gpt2
sizes are Table 2 of Radford et al., "Language Models are Unsupervised Multitask Learners" (2019). All use
GPT-2's own block: tanh GELU, biases, tied embeddings; so a saved model opens in any program that knows GPT-2.
"""

from typing import Any

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
    "gpt2": {**_GPT2, "n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {**_GPT2, "n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {**_GPT2, "n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {**_GPT2, "n_layer": 48, "n_head": 25, "n_embd": 1600},
}
