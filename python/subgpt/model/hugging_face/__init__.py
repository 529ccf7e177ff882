"""`GPTConfig` in Hugging Face's words: the content of a `config.json`, one module a family.

A configuration is written as the first family below that computes the same, so that transformers and whatever
else reads its files opens the model as it is. A block that none of them has (norms without gains …) is
written under a `model_type` of our own, which subgpt alone opens.

| family | block |
|---|---|
| gpt2 | LayerNorm, learned positions, plain MLP with GELU |
| llama | RMS norm, rotary positions, gated MLP with SiLU |
| mistral | the same, and a sliding window |
| qwen2, qwen3 | the same as llama, and biases of queries, keys and values, or norms of query and key heads |
| arcee | the same as llama, but a plain MLP with squared ReLU |
| smollm3 | the same as llama, and blocks that do not rotate |
| gemma2, gemma3_text | norms behind attention and MLP as well, GeGLU, windows in some blocks, scaled embeddings |
| subgpt | everything else |

A family says whether it has a configuration's block (`fits`), writes it (`write`), and reads what it wrote or
what others did (`read`). What its file cannot say is in an entry `"subgpt"` that transformers ignores.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.model.hugging_face import arcee, gemma, gpt2, llama, mistral, own, qwen, smollm3

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

FAMILIES = (gpt2, llama, mistral, qwen, arcee, smollm3, gemma, own)
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
        "pad_token_id": None,  # some families have one by default, whose embedding is then not trained
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
    }
    if family is not own:
        # What reading the file would make of it is what it says; the rest is told beside it.
        fields = config.to_dict()
        said = from_hf(values, "config.json").to_dict()
        unsaid = {name: value for name, value in fields.items() if said[name] != value}
        values |= {"subgpt": unsaid} if unsaid else {}
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
    unsaid = values.get("subgpt", {})
    if not isinstance(unsaid, Mapping):
        raise ConfigError(
            f"{place}: the entry 'subgpt' is {unsaid!r}; it should be an object such as {{\"bias\": false}}"
        )
    try:
        return GPTConfig.from_dict({**_READERS[kind](values, place), **unsaid})
    except (ConfigError, TypeError) as error:
        message = str(error)
        raise ConfigError(message if message.startswith(place) else f"{place}: {message}") from None
