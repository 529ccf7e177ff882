"""A `config.json` of our own, for blocks that no family of transformers has: `GPTConfig`'s fields as they are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

MODEL_TYPES = ("subgpt",)


def fits(_: "GPTConfig") -> bool:
    """Tell that everything fits."""
    return True


def write(config: "GPTConfig") -> dict[str, Any]:
    """Give every field in the entry `"subgpt"`."""
    return {"architectures": ["SubgptForCausalLM"], "model_type": "subgpt", "subgpt": config.to_dict()}


def read(_: Mapping[str, Any], __: str) -> dict[str, Any]:
    """Give nothing: all fields are in the entry `"subgpt"`."""
    return {}
