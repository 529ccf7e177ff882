"""An adapter's directory: `adapter_config.json` and `adapter_model.safetensors`, as PEFT writes and reads them."""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.adapters.config import LoraConfig, is_end, is_turned
from subgpt.errors import CheckpointError, MissingFileError, OutputError
from subgpt.places import absent, expanded

F32 = npt.NDArray[np.float32]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "subgpt_base"
"""The name of the base's fingerprint in the metadata of the weights, which PEFT does not look at."""
_NAME = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
)


class Layer(NamedTuple):
    """What an adapter has for one linear layer: A (r, in), B (out, r), and with DoRA a magnitude (out,)."""

    a: F32
    b: F32
    magnitude: F32 | None = None


@dataclass(frozen=True)
class Adapter:
    """An adapter: its settings, and its layers by transformers' name of the module (without `.weight`)."""

    config: LoraConfig
    layers: dict[str, Layer]


def load_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Read an adapter's directory.

    Raises MissingFileError, CheckpointError or ConfigError, naming the file, for what is missing, damaged or not known.
    """
    from subgpt.checkpoint.load import read_json

    directory = expanded(path)
    remedy = f"an adapter's directory has {CONFIG} and {WEIGHTS}"
    if not directory.is_dir():
        raise MissingFileError(absent(directory, remedy))
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise MissingFileError(f"{directory / name}: no such file; {remedy}")
    config = LoraConfig.from_peft(read_json(directory / CONFIG), str(directory / CONFIG))
    place = directory / WEIGHTS
    found: dict[str, dict[str, F32]] = {}
    for name, value in _core.read_safetensors(str(place)).items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise CheckpointError(
                f"{place}: tensor {name} is none of a low-rank adapter; convert it with peft"
            )
        if not np.isfinite(value).all():
            raise CheckpointError(f"{place}: tensor {name} has numbers that are not finite; train it again")
        found.setdefault(match["module"], {})[match["part"]] = value
    if not found:
        raise CheckpointError(f"{place}: holds no tensor; it adapts nothing")
    if not all(any(is_end(target, module) for target in config.target_modules) for module in found):
        # peft takes a regular expression as well; names say the same, and are read everywhere.
        config = replace(config, target_modules=tuple(sorted(found)))
    return Adapter(config, {module: _layer(parts, config, module, place) for module, parts in found.items()})


def _layer(parts: dict[str, F32], config: LoraConfig, module: str, place: Path) -> Layer:
    a, b, magnitude = (parts.get(name) for name in ("lora_A", "lora_B", "lora_magnitude_vector"))
    if a is None or b is None or (magnitude is None) == config.use_dora:
        needed = "lora_A, lora_B and lora_magnitude_vector" if config.use_dora else "lora_A and lora_B alone"
        raise CheckpointError(
            f"{place}: {module} has {', '.join(sorted(parts))}, but {CONFIG} asks for {needed}"
        )
    if (
        a.ndim != 2
        or b.ndim != 2
        or len(a) != b.shape[1]
        or (magnitude is not None and magnitude.shape != b.shape[:1])
    ):
        shapes = ", ".join(f"{name} {value.shape}" for name, value in parts.items())
        raise CheckpointError(f"{place}: the shapes of {module} do not fit together: {shapes}")
    return Layer(a, b, magnitude)


def save_adapter(adapter: Adapter, path: str | os.PathLike[str], *, base: str = "") -> None:
    """Write an adapter's directory; each file is there whole or not at all.

    base: the fingerprint of the weights that it belongs to, kept with it. Raises OutputError where a model lies, and
    for a directory that cannot be written.
    """
    from subgpt.checkpoint.run_directory import naming

    directory = expanded(path)
    if (directory / "config.json").exists():
        raise OutputError(
            f"{directory}: holds a model, which would be opened without the adapter; name another directory"
        )
    with naming(directory):
        directory.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "pt"} | ({BASE: base} if base else {})
        _core.write_safetensors(str(directory / WEIGHTS), tensors_of(adapter), metadata)
        values = adapter.config.to_peft()
        # GPT-2's layers, which are the other way round in transformers; peft warns where it has to find that out.
        values["fan_in_fan_out"] = any(map(is_turned, adapter.layers))
        text = json.dumps(values, indent=2)  # of the keys of a pattern, the first that matches counts
        _core.write_atomic(str(directory / CONFIG), (text + "\n").encode())


def tensors_of(adapter: Adapter) -> list[tuple[str, F32]]:
    """Give an adapter's tensors by PEFT's names."""
    tensors = []
    for module, layer in sorted(adapter.layers.items()):
        stem = f"base_model.model.{module}"
        tensors += [(f"{stem}.lora_A.weight", layer.a), (f"{stem}.lora_B.weight", layer.b)]
        if layer.magnitude is not None:
            tensors.append((f"{stem}.lora_magnitude_vector", layer.magnitude))
    return tensors


def base_of(path: str | os.PathLike[str]) -> str:
    """Read the fingerprint of the weights that the adapter in a directory belongs to; "" where it says nothing.

    The file is one that `load_adapter` has read.
    """
    with (expanded(path) / WEIGHTS).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return str((header.get("__metadata__") or {}).get(BASE, ""))
