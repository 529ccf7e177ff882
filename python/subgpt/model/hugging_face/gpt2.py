"""GPT-2's `config.json` (transformers, `GPT2Config`).

A model without biases is stored with zero biases, so that transformers computes the same, and an entry
`"subgpt": {"bias": false}` brings back the model without.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.model.hugging_face.block import PLAIN, has_block, refuse_other_than

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("gpt2",)

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "relu2": "relu2"}
# Settings of GPT2Config that change the computation, and the only value that this block computes.
_FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def fits(config: "GPTConfig") -> bool:
    """Tell whether GPT-2 computes the same."""
    known = config.activation in _ACTIVATIONS and not any(config.windows)
    return config.is_gpt2 and known and has_block(config, PLAIN)


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries that are GPT-2's own."""
    return {
        **dict.fromkeys(_DROPOUTS, config.dropout),
        **_FIXED,
        "activation_function": config.activation,
        "architectures": ["GPT2LMHeadModel"],
        "layer_norm_epsilon": config.norm_eps,
        "model_type": "gpt2",
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "n_layer": config.n_layer,
        "n_positions": config.block_size,
    }


def read(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig; absent entries have GPT2Config's defaults."""
    refuse_other_than(_FIXED, values, place)
    activation = values.get("activation_function", "gelu_new")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ConfigError(
            f"{place}: activation_function = {activation!r} is not in this version; known: {known}"
        )
    return {
        "vocab_size": values.get("vocab_size", 50257),
        "block_size": values.get("n_positions", values.get("n_ctx", 1024)),
        "n_layer": values.get("n_layer", 12),
        "n_head": values.get("n_head", 12),
        "n_embd": values.get("n_embd", 768),
        "n_inner": values.get("n_inner"),
        "dropout": _dropout(values, place),
        "activation": _ACTIVATIONS[activation],
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "tie_embeddings": values.get("tie_word_embeddings", True),
    }


def _dropout(values: Mapping[str, Any], place: str) -> Any:
    """Take one dropout rate for GPT-2's three: they must agree."""
    rates = {name: values.get(name, 0.1) for name in _DROPOUTS}
    if len(set(map(repr, rates.values()))) > 1:
        listed = ", ".join(f"{name} = {rate!r}" for name, rate in rates.items())
        raise ConfigError(f"{place}: {listed}; this version has one rate for all three: set them equal")
    return rates["resid_pdrop"]
