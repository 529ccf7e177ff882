"""Which blocks of a `config.json` have a sliding window."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig


def layer_types(config: "GPTConfig") -> list[str]:
    """Name what each block sees."""
    return ["full_attention" if window is None else "sliding_attention" for window in config.windows]


def read_windows(values: Mapping[str, Any], default: Sequence[str]) -> dict[str, Any]:
    """Give `sliding_window` and `layer_types`; `default` are the types where a file lists none.

    Where no block slides, the width of the window says nothing.
    """
    types = values.get("layer_types")
    types = list(default) if types is None else types
    if not isinstance(types, list) or "sliding_attention" in types:
        return {"sliding_window": values.get("sliding_window"), "layer_types": types}
    return {"sliding_window": None, "layer_types": None if set(types) <= {"full_attention"} else types}
