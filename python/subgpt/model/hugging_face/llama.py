"""The `config.json` of Llama and of Qwen3 (transformers, `LlamaConfig`, `Qwen3Config`).

They are one block with and without norms of query and key heads. Dropout is in the entry `"subgpt"`: the
families have it inside attention only.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.model.hugging_face.refuse import refuse_other_than

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("llama", "qwen3")

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# Settings that change the computation, and the only value that this block computes.
_FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "use_sliding_window": False,
    "rope_scaling": None,
}
_WRITTEN = {"hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0}
# What the two have where a file says nothing.
_DEFAULTS = {
    "llama": {"vocab_size": 32000, "max_position_embeddings": 2048, "intermediate_size": 11008},
    "qwen3": {"vocab_size": 151936, "max_position_embeddings": 32768, "intermediate_size": 22016},
}


def fits(config: "GPTConfig") -> bool:
    """Tell whether Llama or Qwen3 compute the same."""
    block = (config.norm, config.norm_gain, config.position, config.mlp, config.bias)
    return block == ("rms_norm", True, "rotary", "gated", False)


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are the families' own."""
    kind = "qwen3" if config.qk_norm else "llama"
    return {
        **_WRITTEN,
        "architectures": [_ARCHITECTURES[kind]],
        "head_dim": config.head_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.inner_size,
        "max_position_embeddings": config.block_size,
        "model_type": kind,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        # One for readers up to transformers 4, one for those from 5 on.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "subgpt": {"dropout": config.dropout, "n_inner": config.n_inner, "n_kv_head": config.n_kv_head},
        "use_cache": True,
    }


def read(values: Mapping[str, Any], own: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have the families' defaults."""
    refuse_other_than(_FIXED, values, place)
    kind = values["model_type"]
    values = {**_DEFAULTS[kind], **values}
    heads = values.get("num_attention_heads", 32)
    fields = {
        "vocab_size": values["vocab_size"],
        "block_size": values["max_position_embeddings"],
        "n_layer": values.get("num_hidden_layers", 32),
        "n_head": heads,
        "n_embd": values.get("hidden_size", 4096),
        "n_kv_head": values.get("num_key_value_heads", heads),
        "head_dim": values.get("head_dim", 128 if kind == "qwen3" else None),
        "n_inner": values["intermediate_size"],
        "norm_eps": values.get("rms_norm_eps", 1e-6),
        "rope_theta": _theta(values, place),
        "dropout": own.get("dropout", 0.0),
        "tie_embeddings": values.get("tie_word_embeddings", False),
        "norm": "rms_norm",
        "position": "rotary",
        "qk_norm": kind == "qwen3",
        "mlp": "gated",
        "activation": "silu",
        "bias": False,
    }
    if own:  # a model of ours: what was left to its default is so again
        fields |= {"head_dim": None} | {name: own[name] for name in ("n_inner", "n_kv_head") if name in own}
    return fields


def _theta(values: Mapping[str, Any], place: str) -> Any:
    """Find the base of the rotary wave lengths in either of its places; scaled ones are refused."""
    rope = values.get("rope_parameters")
    if rope is None:
        return values.get("rope_theta", 10000.0)
    if not isinstance(rope, Mapping) or rope.get("rope_type", "default") != "default":
        raise ConfigError(f"{place}: rope_parameters = {rope!r} is not in this version; only the default is")
    return rope.get("rope_theta", values.get("rope_theta", 10000.0))
