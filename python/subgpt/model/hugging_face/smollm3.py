"""SmolLM3's `config.json` (transformers, `SmolLM3Config`): Llama's block, every fourth without rotation."""

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

MODEL_TYPES = ("smollm3",)

_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
_BLOCK = {name: value for name, value in LLAMA.items() if name != "rope_layers"}
_DEFAULTS = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


def fits(config: "GPTConfig") -> bool:
    """Tell whether SmolLM3 computes the same."""
    return has_block(config, _BLOCK) and not config.has_qkv_bias


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are the family's own."""
    rotates = config.rope_layers or (True,) * config.n_layer
    return {
        **write_sizes(config),
        **write_rope(config),
        **_FIXED,
        "architectures": ["SmolLM3ForCausalLM"],
        "layer_types": layer_types(config),
        "model_type": "smollm3",
        "no_rope_layers": [int(layer) for layer in rotates],  # 1 for those that do rotate
        "sliding_window": config.sliding_window,
        "use_sliding_window": any(config.windows),
    }


def read(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have SmolLM3Config's defaults."""
    refuse_other_than(_FIXED, values, place)
    sizes = read_sizes({**_DEFAULTS, **values})
    slides = values.get("use_sliding_window", False)
    windows = read_windows(values, ("sliding_attention",) * layer_count(sizes["n_layer"])) if slides else {}
    rotates = {"rope_layers": _rotates(values, sizes["n_layer"], place)}
    return {**_BLOCK, **sizes, **read_rope(values, place, 2000000.0), **windows, **rotates}


def _rotates(values: Mapping[str, Any], n_layer: Any, place: str) -> list[bool]:
    listed = values.get("no_rope_layers")
    if listed is None:
        every = values.get("no_rope_layer_interval", 4)
        if not isinstance(every, int) or every < 1:
            raise ConfigError(
                f"{place}: no_rope_layer_interval = {every!r} is not a number of layers; 4 is usual"
            )
        return [(layer + 1) % every != 0 for layer in range(layer_count(n_layer))]
    if not isinstance(listed, list) or not set(map(str, listed)) <= {"0", "1"}:
        raise ConfigError(
            f"{place}: no_rope_layers = {listed!r} is not a list of 0 and 1, one for each layer"
        )
    return [layer == 1 for layer in listed]
