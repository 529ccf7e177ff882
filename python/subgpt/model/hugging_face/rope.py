"""Rotary positions in a `config.json`: in `rope_parameters` (transformers from 5 on), or spread out (before).

Both are written, since readers of either age look in their own place only.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.model.rope_scaling import RopeScaling

if TYPE_CHECKING:
    from subgpt.model.config import GPTConfig


def write_rope(config: "GPTConfig") -> dict[str, Any]:
    """Give the entries for positions that are the same in every block."""
    return {
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scaling is None else config.rope_scaling.to_dict(),
        "rope_parameters": parameters(config.rope_theta, config.rope_scaling),
    }


def parameters(theta: float, scaling: RopeScaling | None) -> dict[str, Any]:
    """Give theta and scaling as one object."""
    return {"rope_theta": theta, **({"rope_type": "default"} if scaling is None else scaling.to_dict())}


def read_rope(values: Mapping[str, Any], place: str, theta: float = 10000.0) -> dict[str, Any]:
    """Give `rope_theta` and `rope_scaling` from either place; `theta` where a file says nothing."""
    refuse_partial(values, place)
    found, scaling = values.get("rope_parameters"), values.get("rope_scaling")
    older = RopeScaling.of(scaling, f"{place}: rope_scaling")
    if found is None:
        return {"rope_theta": values.get("rope_theta", theta), "rope_scaling": older}
    newer = read_parameters(found, f"{place}: rope_parameters", values.get("rope_theta", theta))
    if scaling is not None and older != newer["rope_scaling"]:
        raise ConfigError(
            f"{place}: rope_scaling = {scaling!r} and rope_parameters = {found!r} differ; remove one"
        )
    return newer


def read_parameters(found: Any, place: str, theta: float) -> dict[str, Any]:
    """Read one object with theta and scaling."""
    scaling = RopeScaling.of(found, place)
    refuse_partial(found, place)
    return {"rope_theta": found.get("rope_theta", theta), "rope_scaling": scaling}


def refuse_partial(values: Mapping[str, Any], place: str) -> None:
    """Refuse rotations of a part of each head."""
    factor = values.get("partial_rotary_factor", 1.0)
    if factor not in (None, 1, 1.0):
        raise ConfigError(f"{place}: partial_rotary_factor = {factor!r} is not in this version; only 1.0 is")
