"""`GPTConfig` in Hugging Face's words: the content of a `config.json`, one module a family.

A configuration is written as the first family below that computes the same, so that transformers and whatever
else reads its files opens the model as it is. A block that none of them has (relu2, norms without gains …) is
written under a `model_type` of our own, which subgpt alone opens.

| family | block |
|---|---|
| gpt2 | LayerNorm, learned positions, plain MLP with GELU |
| llama | RMS norm, rotary positions, gated MLP with SiLU |
| qwen3 | the same, and RMS norms of query and key heads |
| subgpt | everything else |

A family says whether it has a configuration's block (`fits`), writes it (`write`), and reads what it wrote or
what others did (`read`). What its file cannot say is in an entry `"subgpt"` that transformers ignores.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.model.hugging_face import gpt2, llama, own

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

FAMILIES = (gpt2, llama, own)
_READERS = {kind: family.read for family in FAMILIES for kind in family.MODEL_TYPES}


def to_hf(config: "GPTConfig", *, bos_token_id: int | None, eos_token_id: int | None) -> dict[str, Any]:
    """Give the content of `config.json`, keys in transformers' (alphabetical) order."""
    family = next(family for family in FAMILIES if family.fits(config))
    values = {
        **family.write(config),
        "bos_token_id": bos_token_id,
        "dtype": "float32",
        "eos_token_id": eos_token_id,
        "initializer_range": 0.02,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
    }
    return dict(sorted(values.items()))


def from_hf(values: Mapping[str, Any], place: str) -> "GPTConfig":
    """Make the configuration that a `config.json` describes; absent entries have the family's defaults.

    Raises ConfigError, with `place`, for another `model_type` or a setting that no block here computes.
    """
    from subgpt.model.config import GPTConfig

    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{place}: holds {type(values).__name__}, not a JSON object; is it a model's config.json?"
        )
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in _READERS:
        said = "has no model_type" if kind is None else f"has model_type {kind!r}"
        raise ConfigError(f"{place}: {said}; this version loads the families {', '.join(_READERS)}")
    own_entry = values.get("subgpt", {})
    if not isinstance(own_entry, Mapping):
        raise ConfigError(
            f"{place}: the entry 'subgpt' is {own_entry!r}; it should be an object such as {{\"bias\": false}}"
        )
    fields = _READERS[kind](values, own_entry, place)
    try:
        return GPTConfig(**fields)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{place}: {error}") from None
