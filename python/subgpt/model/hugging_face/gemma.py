"""The `config.json` of Gemma 2 and 3 (transformers, `Gemma2Config`, `Gemma3TextConfig`).

Norms before and behind attention and MLP, gains as differences to 1, GeGLU, embeddings times the root of the
width, windows in most blocks. Gemma 2 bounds scores and logits; Gemma 3 has norms of query and key heads, and
other waves in blocks with a window.
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
from subgpt.model.hugging_face.rope import parameters, read_parameters, read_rope, write_rope
from subgpt.model.hugging_face.windows import layer_types, read_windows

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("gemma2", "gemma3_text")

_ARCHITECTURES = {"gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
_FIXED = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}
_COMMON = {
    **LLAMA,
    "activation": "gelu_new",
    "norm_unit_offset": True,
    "post_norm": True,
    "scale_embeddings": True,
}
_BLOCKS = {"gemma2": _COMMON, "gemma3_text": {**_COMMON, "qk_norm": True}}
# Fields that are not the same in all models of the family.
_FREE = ("query_pre_attn_scalar", "attn_softcap", "logit_softcap", "rope_local_theta")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma2": {
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "sliding_window_pattern": 2,
    },
    "gemma3_text": {
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "sliding_window_pattern": 6,
    },
}
_SIZES = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "sliding_window": 4096,
    "query_pre_attn_scalar": 256,
}


def _kind(config: "GPTConfig") -> str:
    return "gemma3_text" if config.qk_norm else "gemma2"


def fits(config: "GPTConfig") -> bool:
    """Tell whether Gemma 2 or 3 compute the same."""
    kind = _kind(config)
    block = {name: value for name, value in _BLOCKS[kind].items() if name not in _FREE}
    local = config.rope_local_theta is not None
    if kind == "gemma3_text" and config.attn_softcap is not None:
        return False  # transformers' Gemma 3 has the setting, and bounds no scores
    return has_block(config, block) and not config.has_qkv_bias and local == (kind == "gemma3_text")


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are the families' own."""
    kind = _kind(config)
    scalar = config.head_size if config.query_pre_attn_scalar is None else config.query_pre_attn_scalar
    rope = write_rope(config)
    if config.rope_local_theta is not None:
        rope |= {
            "rope_local_base_freq": config.rope_local_theta,
            "rope_parameters": {
                "full_attention": parameters(config.rope_theta, config.rope_scaling),
                "sliding_attention": parameters(config.rope_local_theta, None),
            },
        }
    return {
        **write_sizes(config),
        **rope,
        **_FIXED,
        "architectures": [_ARCHITECTURES[kind]],
        "attn_logit_softcapping": config.attn_softcap,
        "final_logit_softcapping": config.logit_softcap,
        "layer_types": layer_types(config),
        "model_type": kind,
        "query_pre_attn_scalar": int(scalar)
        if scalar == int(scalar)
        else scalar,  # transformers has an integer
        "sliding_window": config.sliding_window,
        "use_bidirectional_attention": False,
    }


def read(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have the families' defaults."""
    refuse_other_than(_FIXED, values, place)
    if values.get("use_bidirectional_attention"):
        raise ConfigError(
            f"{place}: use_bidirectional_attention is not in this version; a GPT sees what was before"
        )
    kind = values["model_type"]
    values = {**_SIZES, **_DEFAULTS[kind], **values}
    sizes = read_sizes(values)
    rope = _local_rope(values, place) if kind == "gemma3_text" else read_rope(values, place)
    return {
        **_BLOCKS[kind],
        **sizes,
        **rope,
        **read_windows(values, _pattern(values, sizes["n_layer"], place)),
        "query_pre_attn_scalar": values["query_pre_attn_scalar"],
        "attn_softcap": values["attn_logit_softcapping"],
        "logit_softcap": values["final_logit_softcapping"],
    }


def _pattern(values: Mapping[str, Any], n_layer: Any, place: str) -> list[str]:
    """Name what blocks see where a file does not list it: every so many sees everything."""
    every = values.get("_sliding_window_pattern", values["sliding_window_pattern"])
    if not isinstance(every, int) or every < 1:
        raise ConfigError(
            f"{place}: sliding_window_pattern = {every!r} is not a number of layers; 6 is usual"
        )
    return [
        "full_attention" if (layer + 1) % every == 0 else "sliding_attention"
        for layer in range(layer_count(n_layer))
    ]


def _local_rope(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Read the waves of Gemma 3's two kinds of blocks, in either spelling."""
    found = values.get("rope_parameters")
    if found is None:
        local = values.get("rope_local_base_freq", 10000.0)
        return {**read_rope(values, place, 1000000.0), "rope_local_theta": local}
    kinds = ("full_attention", "sliding_attention")
    if not isinstance(found, Mapping) or not all(isinstance(found.get(kind), Mapping) for kind in kinds):
        raise ConfigError(
            f"{place}: rope_parameters = {found!r} has not an object for each of {', '.join(kinds)}"
        )
    full, local = (
        read_parameters(found[kind], f"{place}: rope_parameters of {kind}", theta)
        for kind, theta in zip(kinds, (1000000.0, 10000.0), strict=True)
    )
    if local["rope_scaling"] is not None:
        raise ConfigError(
            f"{place}: scaled waves of sliding_attention are not in this version; only those of full are"
        )
    return {**full, "rope_local_theta": local["rope_theta"]}
