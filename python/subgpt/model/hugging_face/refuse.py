"""Refusing a `config.json` that asks for what no block here computes."""

from collections.abc import Mapping
from typing import Any

from subgpt.errors import ConfigError


def refuse_other_than(fixed: Mapping[str, Any], values: Mapping[str, Any], place: str) -> None:
    """Raise ConfigError for the first entry of `values` that is there and not as `fixed` has it."""
    for name, only in fixed.items():
        if values.get(name, only) != only:
            raise ConfigError(f"{place}: {name} = {values[name]!r} is not in this version; only {only} is")
