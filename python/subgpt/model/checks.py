"""Checks of single fields of a `GPTConfig`; each raises ConfigError with field, value and remedy.

Values that other libraries made (NumPy integers, lists) become plain ones, so that they can be compared and
written as JSON.
"""

import math
from typing import TYPE_CHECKING, Any, NoReturn

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig

LIMITS = {"vocab_size": 1 << 24, "block_size": 1 << 20, "n_layer": 1024, "n_head": 1024, "n_embd": 1 << 16}
"""Far beyond any model for a CPU; keeps every product of sizes inside 64 bits."""


def refuse(config: "GPTConfig", field: str, problem: str, remedy: str) -> NoReturn:
    """Raise ConfigError for `field`."""
    value = getattr(config, field)
    shown = list(value) if isinstance(value, tuple) else value
    raise ConfigError(f"GPTConfig: {field} = {shown!r} {problem}; {remedy}")


def truth(config: "GPTConfig", name: str) -> None:
    """Check that a field is True or False."""
    if not isinstance(getattr(config, name), bool):
        refuse(config, name, "is not a truth value", "give True or False")


def integer(config: "GPTConfig", name: str, limit: int) -> None:
    """Check that a field is an integer from 1 to `limit`."""
    value = getattr(config, name)
    if not hasattr(value, "__index__") or isinstance(value, bool):
        refuse(config, name, "is not an integer", f"give one from 1 to {limit}")
    value = value.__index__()
    if not 1 <= value <= limit:
        refuse(config, name, "is out of range", f"give one from 1 to {limit}")
    object.__setattr__(config, name, value)


def number(config: "GPTConfig", name: str, low: float, high: float, remedy: str) -> None:
    """Check that a field is a number of at least `low` and below `high`."""
    value = getattr(config, name)
    if isinstance(value, bool) or not hasattr(value, "__float__") or isinstance(value, str):
        refuse(config, name, "is not a number", remedy)
    value = float(value)
    if not (math.isfinite(value) and low <= value < high):
        refuse(config, name, f"is not in [{low:g}, {high:g})", remedy)
    object.__setattr__(config, name, value)


def positive(config: "GPTConfig", name: str, high: float, remedy: str) -> None:
    """Check that a field is a number above 0 and below `high`."""
    number(config, name, 0.0, high, remedy)
    if not getattr(config, name) > 0:
        refuse(config, name, "is not above 0", remedy)


def choice(config: "GPTConfig", name: str, allowed: tuple[str, ...], where: str = "") -> None:
    """Check that a field is one of `allowed`."""
    value = getattr(config, name)
    if value not in allowed:
        refuse(config, name, f"is not known{where}", did_you_mean(str(value), allowed))


def for_each_layer(config: "GPTConfig", name: str, allowed: tuple[Any, ...]) -> None:
    """Check that a field, where it is there, has one of `allowed` for each block."""
    value = getattr(config, name)
    if value is None:
        return
    if not isinstance(value, list | tuple):
        refuse(config, name, "is not a list", f"give {config.n_layer} entries, one for each block")
    object.__setattr__(config, name, tuple(value))
    if len(value) != config.n_layer:
        refuse(config, name, f"has {len(value)} entries", f"give {config.n_layer}, one for each block")
    for entry in value:
        if not any(entry is known or (isinstance(entry, str) and entry == known) for known in allowed):
            refuse(config, name, f"has {entry!r} in it", f"known: {', '.join(map(repr, allowed))}")
