"""Llama's `config.json` (transformers, `LlamaConfig`); SmolLM 1 and 2 have it as well."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.model.hugging_face.block import LLAMA, has_block, read_sizes, refuse_other_than, write_sizes
from subgpt.model.hugging_face.rope import read_rope, write_rope

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("llama",)

# Settings that change the computation, and the only value that this block computes.
_FIXED = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}
_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def fits(config: "GPTConfig") -> bool:
    """Tell whether Llama computes the same."""
    return has_block(config, LLAMA) and not config.has_qkv_bias and not any(config.windows)


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are the family's own."""
    return {
        **write_sizes(config),
        **write_rope(config),
        **_FIXED,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
    }


def read(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have LlamaConfig's defaults."""
    refuse_other_than(_FIXED, values, place)
    return {**LLAMA, **read_sizes({**_DEFAULTS, **values}), **read_rope(values, place)}
