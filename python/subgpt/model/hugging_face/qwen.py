"""The `config.json` of Qwen2 (2.5 too) and Qwen3 (transformers, `Qwen2Config`, `Qwen3Config`).

Llama's block with biases of queries, keys and values in Qwen2, and norms of query and key heads in Qwen3;
windows, which few of them have, begin at some layer.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.model.hugging_face.block import (
    LLAMA,
    has_block,
    layer_count,
    read_sizes,
    refuse_other_than,
    write_sizes,
)
from subgpt.model.hugging_face.rope import read_rope, write_rope
from subgpt.model.hugging_face.windows import layer_types, read_windows

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("qwen2", "qwen3")

_ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_FIXED: dict[str, dict[str, Any]] = {
    "qwen2": {"hidden_act": "silu"},
    "qwen3": {"hidden_act": "silu", "attention_bias": False},
}
_BLOCKS = {"qwen2": {**LLAMA, "qkv_bias": True}, "qwen3": {**LLAMA, "qk_norm": True}}
_DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


def _kind(config: "GPTConfig") -> str:
    return "qwen3" if config.qk_norm else "qwen2"


def fits(config: "GPTConfig") -> bool:
    """Tell whether Qwen2 or Qwen3 compute the same."""
    kind = _kind(config)
    return has_block(config, _BLOCKS[kind]) and config.has_qkv_bias == (kind == "qwen2")


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are the families' own."""
    kind = _kind(config)
    return {
        **write_sizes(config),
        **write_rope(config),
        **_FIXED[kind],
        "architectures": [_ARCHITECTURES[kind]],
        "layer_types": layer_types(config),
        "model_type": kind,
        "sliding_window": config.sliding_window,
        "use_sliding_window": any(config.windows),
    }


def read(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have the families' defaults."""
    kind = values["model_type"]
    refuse_other_than(_FIXED[kind], values, place)
    values = {**_DEFAULTS, **({"head_dim": 128} if kind == "qwen3" else {}), **values}
    sizes = read_sizes(values)
    return {**_BLOCKS[kind], **sizes, **read_rope(values, place), **_windows(values, sizes["n_layer"], place)}


def _windows(values: Mapping[str, Any], n_layer: Any, place: str) -> dict[str, Any]:
    if not values.get("use_sliding_window", False):
        return {}
    first = values["max_window_layers"]
    if not isinstance(first, int):
        raise ConfigError(f"{place}: max_window_layers = {first!r} is not a number of layers; 28 is usual")
    default = [
        "sliding_attention" if layer >= first else "full_attention" for layer in range(layer_count(n_layer))
    ]
    return read_windows(values, default)
