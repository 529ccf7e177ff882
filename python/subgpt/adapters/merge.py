"""Adding an adapter to the weights of a model, so that it is a model like any other."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt.adapters.config import LoraConfig, is_turned
from subgpt.adapters.files import Adapter, Layer
from subgpt.adapters.fit import check_layers
from subgpt.model.quantized import refuse_quantized

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT

F32 = npt.NDArray[np.float32]


def merge_adapter(model: "GPT", adapter: Adapter) -> None:
    """Add an adapter's change to a model's weights, in place; nothing is changed unless all of it fits.

    Several adapters are merged one after the other; of DoRA's, whose lengths are those of one sum, only one is meant.
    Raises CheckpointError for an adapter of another base, ConfigError for a quantized model.
    """
    refuse_quantized(
        model, "merge_adapter", "merge into the float32 base (subgpt merge), which is more exact"
    )
    names = model.native.tensor_names()
    modules = {name.removesuffix(".weight") for name in names if name.endswith(".weight")}
    check_layers(adapter, model, modules, "adapter", lacks="has not")
    merged: dict[str, F32] = {}
    for module, layer in adapter.layers.items():
        base = model.native.tensor(f"{module}.weight", "param")
        if is_turned(module):
            value = merged_weight(base.T, layer, adapter.config, module).T
        else:
            value = merged_weight(base, layer, adapter.config, module)
        merged[f"{module}.weight"] = np.ascontiguousarray(value)
    for name, value in merged.items():
        model.native.set_tensor(name, value)


def merged_weight(base: F32, layer: Layer, config: LoraConfig, module: str) -> F32:
    """Give W + scale B A (out, in), with DoRA its rows at the learned lengths."""
    total = base.astype(np.float64) + config.scale(module) * (
        layer.b.astype(np.float64) @ layer.a.astype(np.float64)
    )
    if layer.magnitude is not None:
        lengths = np.linalg.norm(total, axis=1, keepdims=True)
        total *= layer.magnitude[:, None] / np.where(lengths > 0, lengths, 1.0)
    return np.asarray(total, dtype=np.float32)
