"""Adding an adapter to the weights of a model, so that it is a model like any other."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt.adapters.config import LoraConfig, is_turned
from subgpt.adapters.files import Adapter, Layer
from subgpt.errors import CheckpointError
from subgpt.model.quantized import refuse_quantized
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT

F32 = npt.NDArray[np.float32]


def merge_adapter(model: "GPT", adapter: Adapter, *, weight: float = 1.0) -> None:
    """Add `weight` times an adapter's change to a model's weights, in place; nothing is changed unless all of it fits.

    Several adapters are merged one after the other; of DoRA's, whose lengths are those of one sum, only one is meant.
    Raises CheckpointError for an adapter of another base, ConfigError for a quantized model.
    """
    refuse_quantized(
        model, "merge_adapter", "merge into the float32 base (subgpt merge), which is more exact"
    )
    shapes = dict(model.native.tensor_shapes())
    merged: dict[str, F32] = {}
    for module, layer in adapter.layers.items():
        name = f"{module}.weight"
        if name not in shapes:
            raise CheckpointError(
                f"adapter: it adapts {module}, which this model has not ({did_you_mean(name, list(shapes))}); it was "
                f"made for {adapter.config.base or 'another model'}"
            )
        base = model.native.tensor(name, "param")
        turned = is_turned(module)
        wide = base.T if turned else base
        if wide.shape != (len(layer.b), layer.a.shape[1]):
            raise CheckpointError(
                f"adapter: its {module} is for a weight of shape {(len(layer.b), layer.a.shape[1])}, this model's has "
                f"{wide.shape} (out, in); it was made for {adapter.config.base or 'another model'}"
            )
        change = merged_weight(wide, layer, adapter.config, module) - wide
        merged[name] = np.ascontiguousarray((wide + weight * change).T if turned else wide + weight * change)
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
