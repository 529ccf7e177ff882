"""`GPTConfig` in Hugging Face's words: the `config.json` of a GPT-2 (transformers, `GPT2Config`).

What GPT-2's file cannot say is in an entry `"subgpt"` that transformers ignores: a model without biases is
stored with zero biases, so that transformers computes the same, and `"subgpt": {"bias": false}` brings back
the model without.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new"}
# Settings of GPT2Config that change the computation, and the only value that this block computes.
_FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
_DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def to_hf(config: "GPTConfig", *, bos_token_id: int | None, eos_token_id: int | None) -> dict[str, Any]:
    """Give the content of `config.json`, keys in transformers' (alphabetical) order."""
    values: dict[str, Any] = {
        "activation_function": config.activation,
        "architectures": ["GPT2LMHeadModel"],
        "bos_token_id": bos_token_id,
        "dtype": "float32",
        "eos_token_id": eos_token_id,
        "initializer_range": 0.02,
        "layer_norm_epsilon": config.norm_eps,
        "model_type": "gpt2",
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_inner": config.n_inner,
        "n_layer": config.n_layer,
        "n_positions": config.block_size,
        "subgpt": {"bias": config.bias},
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
    }
    values |= dict.fromkeys(_DROPOUTS, config.dropout) | _FIXED
    return dict(sorted(values.items()))


def from_hf(values: Mapping[str, Any], place: str) -> "GPTConfig":
    """Make the configuration that a `config.json` describes; absent entries have GPT2Config's defaults.

    Raises ConfigError, with `place`, for another `model_type` or a setting that this block does not compute.
    """
    from subgpt.model.config import GPTConfig

    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{place}: holds {type(values).__name__}, not a JSON object; is it a model's config.json?"
        )
    kind = values.get("model_type")
    if kind != "gpt2":
        said = "has no model_type" if kind is None else f"has model_type {kind!r}"
        raise ConfigError(f"{place}: {said}; this version loads the family 'gpt2'")
    for name, only in _FIXED.items():
        if values.get(name, only) != only:
            raise ConfigError(f"{place}: {name} = {values[name]!r} is not in this version; only {only} is")
    activation = values.get("activation_function", "gelu_new")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ConfigError(
            f"{place}: activation_function = {activation!r} is not in this version; known: {known}"
        )
    own = values.get("subgpt", {})
    if not isinstance(own, Mapping):
        raise ConfigError(
            f"{place}: the entry 'subgpt' is {own!r}; it should be an object such as {{\"bias\": false}}"
        )
    try:
        return GPTConfig(
            vocab_size=values.get("vocab_size", 50257),
            block_size=values.get("n_positions", values.get("n_ctx", 1024)),
            n_layer=values.get("n_layer", 12),
            n_head=values.get("n_head", 12),
            n_embd=values.get("n_embd", 768),
            n_inner=values.get("n_inner"),
            bias=own.get("bias", True),
            dropout=_dropout(values, place),
            activation=_ACTIVATIONS[activation],
            norm_eps=values.get("layer_norm_epsilon", 1e-5),
            tie_embeddings=values.get("tie_word_embeddings", True),
        )
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _dropout(values: Mapping[str, Any], place: str) -> Any:
    """Take one dropout rate for GPT-2's three: they must agree."""
    rates = {name: values.get(name, 0.1) for name in _DROPOUTS}
    if len(set(map(repr, rates.values()))) > 1:
        listed = ", ".join(f"{name} = {rate!r}" for name, rate in rates.items())
        raise ConfigError(f"{place}: {listed}; this version has one rate for all three: set them equal")
    return rates["resid_pdrop"]
