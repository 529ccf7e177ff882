"""Putting adapters over a model: new ones, those of a directory, and taking them off again as values.

An adapter that is in use changes what the model computes, and is all of it that is trained. Any number may lie over
one model, one of them in use.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.adapters.config import ALL_LINEAR, LoraConfig, is_end
from subgpt.adapters.files import Adapter, Layer, base_of, load_adapter, tensors_of
from subgpt.adapters.fit import check_layers
from subgpt.errors import CheckpointError, ConfigError
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT

DEFAULT = "default"
SAMPLE = 64
"""Numbers of each tensor that a fingerprint is made of."""


def attach_new(model: "GPT", config: LoraConfig, name: str = DEFAULT, *, seed: int = 0) -> None:
    """Put a new adapter over a model and use it: A random, B zero, so that nothing changes yet.

    Raises ConfigError for layers that this model has not.
    """
    modules = target_layers(_core.linear_modules(model.native), config.target_modules)
    ends = tuple(sorted({module.rpartition(".")[2] for module in modules}))
    every = ALL_LINEAR in config.target_modules
    named = ends if every else config.target_modules
    config = dataclasses.replace(config, target_modules=named, base=config.base or model.name_or_path)
    _attach(model, name, config, modules, seed)


def attach_saved(
    model: "GPT", path: str | os.PathLike[str], name: str = DEFAULT, *, check_base: bool = True
) -> None:
    """Put the adapter in a directory over a model and use it.

    check_base: refuse one that was trained over other weights, where its file says so.
    Raises what `load_adapter` raises, and CheckpointError for an adapter of another base.
    """
    adapter = load_adapter(path)
    check_layers(
        adapter,
        model,
        set(_core.linear_modules(model.native)),
        str(path),
        lacks="does not adapt as it runs",
        remedy="; if it is the base, merge it: subgpt merge",
    )
    base = base_of(path)
    if check_base and base and base != fingerprint(model):
        raise CheckpointError(
            f"{path}: was trained over other weights than this model's; it was made for "
            f"{adapter.config.base or 'another model'}; give that model, or check_base=False if these weights are meant"
        )
    _attach(model, name, adapter.config, list(adapter.layers), 0)
    for tensor, value in tensors_of(adapter):
        _core.set_adapter_tensor(model.native, name, tensor, np.ascontiguousarray(value))


def adapter_of(model: "GPT", name: str) -> Adapter:
    """Copy an adapter that lies over a model."""
    if name not in model.adapter_configs:
        raise ConfigError(f"adapter {name!r} is not over this model; its adapters: {_named(model)}")
    found = _core.adapter_tensors(model.native, name)
    layers = {}
    for module in _core.linear_modules(model.native):
        stem = f"base_model.model.{module}"
        a = found.get(f"{stem}.lora_A.weight")
        if a is not None:
            magnitude = found.get(f"{stem}.lora_magnitude_vector")
            layers[module] = Layer(a, found[f"{stem}.lora_B.weight"], magnitude)
    return Adapter(model.adapter_configs[name], layers)


def refuse_adapters(model: "GPT", doing: str) -> None:
    """Raise ConfigError where adapters lie over a model that something is done to which leaves them out."""
    if model.adapters:
        raise ConfigError(
            f"{doing}: adapters lie over this model ({_named(model)}); merge_adapter() makes one a part of the "
            "weights, delete_adapter() takes one away (command line: subgpt merge)"
        )


def target_layers(modules: list[str], targets: tuple[str, ...]) -> list[str]:
    """Find the layers that `targets` mean, in order; ConfigError for a target that means none.

    >>> target_layers(["h.0.attn.c_attn", "h.0.mlp.c_fc"], ("c_fc",))
    ['h.0.mlp.c_fc']
    """
    if ALL_LINEAR in targets:
        return modules
    if not targets:
        raise ConfigError("target_modules is empty; name layers, or give all-linear")
    for target in targets:
        if not any(is_end(target, module) for module in modules):
            ends = sorted({module.rpartition(".")[2] for module in modules})
            raise ConfigError(
                f"target_modules: this model has no linear layer {target!r} in its blocks; "
                f"{did_you_mean(target, [*ends, ALL_LINEAR])}"
            )
    return [module for module in modules if any(is_end(target, module) for target in targets)]


def fingerprint(model: "GPT") -> str:
    """Give a hash of a model's weights, from some numbers of each: enough to tell it from another.

    Of a quantized model it is that of the float32 weights that it was made of.
    """
    if model.float32_fingerprint is not None:
        return model.float32_fingerprint
    return _hash(
        model, [_core.tensor_sample(model.native, name, SAMPLE) for name in model.native.tensor_names()]
    )


def note_origin(model: "GPT", samples: Sequence[npt.NDArray[np.float32]]) -> None:
    """Keep the fingerprint of the float32 weights of which a model was read in few bits, `SAMPLE` numbers of each."""
    if model.quantization is not None:
        model.float32_fingerprint = _hash(model, samples)


def _hash(model: "GPT", samples: Sequence[npt.NDArray[np.float32]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for (name, shape), sample in zip(model.native.tensor_shapes(), samples, strict=True):
        digest.update(f"{name}{list(shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()


def _attach(model: "GPT", name: str, config: LoraConfig, modules: list[str], seed: int) -> None:
    named = [{"name": module, "r": config.rank(module), "scale": config.scale(module)} for module in modules]
    spec = {"modules": named, "dropout": config.lora_dropout, "dora": config.use_dora}
    _core.add_adapter(model.native, name, json.dumps(spec), seed)
    _core.set_adapter(model.native, name)
    model.adapter_configs[name] = config


def _named(model: "GPT") -> str:
    return ", ".join(model.adapters) or "none"
