"""How the waves of rotary positions are stretched, in Hugging Face's words."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

_FIELDS = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


@dataclass(frozen=True)
class RopeScaling:
    """A stretch of wave lengths, so that a model sees further than the lengths it was first trained on.

    rope_type: "linear", all of them by `factor` (Chen et al., "Extending context window of large language
    models via positional interpolation", 2023), or "llama3", those longer than
    `original_max_position_embeddings` / `low_freq_factor` by `factor`, those shorter than
    `original_max_position_embeddings` / `high_freq_factor` not at all, and those between by something between
    (Llama 3.1).

    >>> RopeScaling("linear", 8)
    RopeScaling(rope_type='linear', factor=8.0, low_freq_factor=None, high_freq_factor=None, \
original_max_position_embeddings=None)
    """

    rope_type: str
    factor: float
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: float | None = None

    def __post_init__(self) -> None:
        if self.rope_type not in _FIELDS:
            raise ConfigError(
                f"rope_type = {self.rope_type!r} is not in this version; "
                f"{did_you_mean(str(self.rope_type), (*_FIELDS, 'default'))}"
            )
        for name in (field.name for field in dataclasses.fields(self) if field.name != "rope_type"):
            value = getattr(self, name)
            if name in _FIELDS[self.rope_type]:
                object.__setattr__(self, name, _positive(name, value))
            elif value is not None:
                raise ConfigError(
                    f"{name} = {value!r} has no meaning with rope_type = {self.rope_type!r}; leave it out"
                )
        low, high = self.low_freq_factor, self.high_freq_factor
        if low is not None and high is not None and low >= high:
            raise ConfigError(
                f"low_freq_factor = {low} is not below high_freq_factor = {high}; exchange them"
            )

    def to_dict(self) -> dict[str, Any]:
        """Give the fields that the type has."""
        return {
            "rope_type": self.rope_type,
            **{name: getattr(self, name) for name in _FIELDS[self.rope_type]},
        }

    @classmethod
    def of(cls, value: Any, place: str) -> "RopeScaling | None":
        """Read what a `config.json` has: a mapping, with `type` for `rope_type` in old ones; None for none.

        Raises ConfigError, with `place`, for what is not known.
        """
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{place} = {value!r} is not a mapping; give rope_type and its factors, or nothing"
            )
        kind = value.get("rope_type", value.get("type"))
        if kind in (None, "default"):
            return None
        known = {name: value[name] for name in _FIELDS.get(str(kind), ()) if name in value}
        try:
            return cls(kind, known.pop("factor", None), **known)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None


def _positive(name: str, value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise ConfigError(f"{name} = {value!r} is not a number above 0; the model's config.json has it")
    return float(value)
