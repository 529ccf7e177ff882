"""A `config.json` of our own, for blocks that no family of transformers has: `GPTConfig`'s fields as they are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("subgpt",)


def fits(_: "GPTConfig") -> bool:
    """Tell that everything fits."""
    return True


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give every field in the entry `"subgpt"`."""
    return {"architectures": ["SubgptForCausalLM"], "model_type": "subgpt", "subgpt": config.to_dict()}


def read(_: Mapping[str, Any], own: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Give the fields of GPTConfig, which must be all there."""
    from subgpt.model.config import GPTConfig

    try:
        return GPTConfig.from_dict(own).to_dict()
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
