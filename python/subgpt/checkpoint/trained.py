"""What a run has trained, to and from files: the whole model, or the adapter in use over it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subgpt import _core
from subgpt.adapters.attach import fingerprint
from subgpt.adapters.files import BASE, CONFIG, WEIGHTS, base_of
from subgpt.checkpoint.run_directory import write_json
from subgpt.errors import CheckpointError

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT


def weights_file(model: "GPT") -> str:
    """Name the file of what is trained, as other programs look for it."""
    return "model.safetensors" if model.active_adapter is None else WEIGHTS


def save_weights(model: "GPT", path: Path) -> None:
    """Write what is trained: the whole model, or the adapter in use, with what it lies over."""
    if model.active_adapter is None:
        model.native.save_safetensors(str(path), {"format": "pt"})
    else:
        about = {"format": "pt", BASE: fingerprint(model)}
        _core.save_adapter(model.native, model.active_adapter, str(path), about)


def config_file(model: "GPT") -> str:
    """Name the file of `write_config`."""
    return "config.json" if model.active_adapter is None else CONFIG


def write_config(model: "GPT", directory: Path) -> None:
    """Write what `load` needs to open a directory with these weights."""
    if model.active_adapter is None:
        write_json(directory / "config.json", model.config.to_hf())
    else:
        write_json(directory / CONFIG, model.adapter_configs[model.active_adapter].to_peft())


def check_base(model: "GPT", directory: Path) -> None:
    """Raise CheckpointError for the checkpoint of an adapter that was trained over other weights than `model`'s."""
    base = base_of(directory) if (directory / WEIGHTS).exists() else ""
    if base and base != fingerprint(model):
        raise CheckpointError(
            f"{directory}: its adapter was trained over other weights; go on with the model that the run began with"
        )


def load_weights(model: "GPT", path: Path) -> None:
    """Read what `save_weights` wrote."""
    if model.active_adapter is None:
        model.native.load_safetensors([str(path)])
    else:
        _core.load_adapter(model.native, model.active_adapter, str(path))


def copy_weights(model: "GPT") -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Copy what is trained."""
    return {name: model.native.tensor(name, "param") for name in _core.trained_names(model.native)}


def put_back(model: "GPT", weights: Mapping[str, np.ndarray[Any, np.dtype[np.float32]]]) -> None:
    """Undo what changed since `copy_weights`."""
    for name, value in weights.items():
        model.native.set_tensor(name, value)
