"""Arcee's `config.json` (transformers, `ArceeConfig`; AFM): Llama's block with a plain MLP of squared ReLUs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.model.hugging_face.block import LLAMA, has_block, read_sizes, refuse_other_than, write_sizes
from subgpt.model.hugging_face.rope import read_rope, write_rope

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("arcee",)

_BLOCK: dict[str, Any] = {**LLAMA, "mlp": "plain", "activation": "relu2"}
# Settings that change the computation, and the only value that this block computes.
_FIXED = {"hidden_act": "relu2", "attention_bias": False, "mlp_bias": False}
_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 2560,
    "intermediate_size": 18432,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def fits(config: "GPTConfig") -> bool:
    """Tell whether Arcee's models compute the same."""
    return has_block(config, _BLOCK) and not config.has_qkv_bias and not any(config.windows)


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are the family's own."""
    return {
        **write_sizes(config),
        **write_rope(config),
        **_FIXED,
        "architectures": ["ArceeForCausalLM"],
        "model_type": "arcee",
    }


def read(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have ArceeConfig's defaults."""
    refuse_other_than(_FIXED, values, place)
    return {**_BLOCK, **read_sizes({**_DEFAULTS, **values}), **read_rope(values, place)}
