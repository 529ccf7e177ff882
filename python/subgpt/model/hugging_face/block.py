"""What the families share: the fields that make a block, and refusing a file that asks for another one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

PLAIN: dict[str, Any] = {
    "norm_gain": True,
    "norm_unit_offset": False,
    "post_norm": False,
    "query_pre_attn_scalar": None,
    "attn_softcap": None,
    "logit_softcap": None,
    "scale_embeddings": False,
    "rope_local_theta": None,
    "rope_layers": None,
}
"""A block without any of what single families have beside the usual."""

LLAMA: dict[str, Any] = {
    **PLAIN,
    "norm": "rms_norm",
    "position": "rotary",
    "mlp": "gated",
    "activation": "silu",
    "bias": False,
    "qk_norm": False,
}
"""Llama's block, which Mistral's, Qwen's and SmolLM's are variations of."""


def has_block(config: "GPTConfig", block: Mapping[str, Any]) -> bool:
    """Tell whether all fields of `block` are so in `config`."""
    return all(getattr(config, name) == value for name, value in block.items())


def refuse_other_than(fixed: Mapping[str, Any], values: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError for the first entry of `values` that is there and not as `fixed` has it."""
    for name, only in fixed.items():
        if values.get(name, only) != only:
            raise ConfigError(f"{place}: {name} = {values[name]!r} is not in this version; only {only} is")


def write_sizes(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that all families since Llama have."""
    return {
        "attention_dropout": 0.0,
        "head_dim": config.head_size,
        "hidden_size": config.n_embd,
        "intermediate_size": config.inner_size,
        "max_position_embeddings": config.block_size,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.kv_heads,
        "rms_norm_eps": config.norm_eps,
        "use_cache": True,
    }


def read_sizes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of GPTConfig that `write_sizes` wrote; `values` has the family's defaults."""
    heads = values["num_attention_heads"]
    kv_heads = values.get("num_key_value_heads")
    return {
        "vocab_size": values["vocab_size"],
        "block_size": values["max_position_embeddings"],
        "n_layer": values["num_hidden_layers"],
        "n_head": heads,
        "n_embd": values["hidden_size"],
        "n_kv_head": heads if kv_heads is None else kv_heads,
        "head_dim": values.get("head_dim"),
        "n_inner": values["intermediate_size"],
        "norm_eps": values["rms_norm_eps"],
        "tie_embeddings": values["tie_word_embeddings"],
    }


def layer_count(n_layer: Any) -> int:
    """Bound a number of layers that GPTConfig has not checked yet, so that a list of them can be made."""
    return min(n_layer, 1 << 16) if isinstance(n_layer, int) else 0
