"""Mistral's `config.json` (transformers, `MistralConfig`): Llama's block with a window in every layer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.model.hugging_face.block import LLAMA, has_block, read_sizes, refuse_other_than, write_sizes
from subgpt.model.hugging_face.rope import read_rope, write_rope

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("mistral",)

_FIXED = {"hidden_act": "silu"}
_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def fits(config: "GPTConfig") -> bool:
    """Tell whether Mistral computes the same."""
    return has_block(config, LLAMA) and not config.has_qkv_bias and all(config.windows)


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are the family's own."""
    return {
        **write_sizes(config),
        **write_rope(config),
        **_FIXED,
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "sliding_window": config.sliding_window,
    }


def read(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have MistralConfig's defaults."""
    refuse_other_than(_FIXED, values, place)
    window = values.get("sliding_window", 4096)  # null in later models: all layers see everything
    sizes = read_sizes({**_DEFAULTS, **values})
    return {**LLAMA, **sizes, **read_rope(values, place), "sliding_window": window}
