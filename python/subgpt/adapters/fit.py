"""Whether an adapter fits a model: it has the layers, in the shapes that they are adapted in."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from subgpt.adapters.config import is_turned
from subgpt.adapters.files import CONFIG, Adapter
from subgpt.errors import CheckpointError
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT


def check_layers(
    adapter: Adapter, model: "GPT", modules: Collection[str], owner: str, *, lacks: str, remedy: str = ""
) -> None:
    """Raise CheckpointError for a layer of an adapter that is none of a model's `modules`, or of another shape or rank.

    owner: what the message begins with. lacks, remedy: what it says of a layer that is not among them.
    """
    made_for = f"it was made for {adapter.config.base or 'another model'}"
    shapes = dict(model.native.tensor_shapes())
    for module, layer in adapter.layers.items():
        if module not in modules:
            near = did_you_mean(module, sorted(modules))
            raise CheckpointError(
                f"{owner}: it adapts {module}, which this model {lacks} ({near}); {made_for}{remedy}"
            )
        stored = shapes[f"{module}.weight"]
        shape = tuple(reversed(stored)) if is_turned(module) else tuple(stored)
        adapted = (len(layer.b), layer.a.shape[1])
        if shape != adapted:
            raise CheckpointError(
                f"{owner}: its {module} is for a weight of shape {adapted}, this model's has {shape} (out, in); "
                f"{made_for}"
            )
        if len(layer.a) != (rank := adapter.config.rank(module)):
            raise CheckpointError(f"{owner}: {module} has rank {len(layer.a)}, but {CONFIG} says {rank}")
