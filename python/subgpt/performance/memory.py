"""How much memory a training run will take, by what it is for.

Everything native is exact arithmetic over the shape, asked of a model of that shape. A model that is large
beside this machine is not made for that: parameters, gradients and activations grow by the same for each
block, so models of one and of two blocks tell.
"""

from subgpt.errors import OutOfMemoryError
from subgpt.model.config import GPTConfig
from subgpt.model.gpt import GPT
from subgpt.performance.machine import memory_limit
from subgpt.training.config import TrainConfig
from subgpt.training.start import prepare
from subgpt.units import in_memory

LARGE = 1 << 30
"""Bytes of parameters from which on a model is not made only to be measured."""

# Floats that each optimizer keeps for each weight of the blocks' matrices, and for every other parameter.
_MOMENTS = {"adamw": (2, 2), "sgd": (1, 1), "lion": (1, 1), "muon": (1, 2)}


def native_memory(model: GPTConfig, config: TrainConfig) -> dict[str, int]:
    """Give the bytes of a run's native buffers: moments, what it trains with, and what validation adds."""
    if not is_large(model):
        return _ask(model, config)
    one, two = (_ask(model.replace(n_layer=layers), config) for layers in (1, 2))
    return {name: max(0, one[name] + (model.n_layer - 1) * (two[name] - one[name])) for name in one}


def is_large(model: GPTConfig) -> bool:
    """Tell whether a model should not be made just to be measured."""
    limit = memory_limit()
    return 4 * model.num_params() > min(LARGE, LARGE if limit is None else limit // 8)


def _optimizer_bytes(model: GPT, config: TrainConfig) -> int:
    """Give the bytes of an optimizer's moments for what is trained."""
    of_matrix, of_other = _MOMENTS[config.optimizer]
    if config.optimizer == "sgd" and config.momentum == 0:
        return 0
    trained = model.num_trained()
    matrices = trained if config.lora else model.config.n_layer * model.config.block_weights
    return 4 * (of_matrix * matrices + of_other * (trained - matrices))


def _ask(model: GPTConfig, config: TrainConfig) -> dict[str, int]:
    made = GPT.blank(model, dtype=config.dtype or "float32")
    prepare(made, config)
    block_size = config.block_size or model.block_size
    training = dict(made.native.memory(config.batch_size, block_size, True))
    inference = made.native.memory(config.batch_size, block_size, False)
    validates = config.val_fraction > 0
    validation = inference["activations"] if validates else 0
    return {"optimizer": _optimizer_bytes(made, config), **training, "validation": validation}


def check_room(needed: int) -> None:
    """Raise OutOfMemoryError if `needed` bytes are more than this process may have."""
    limit = memory_limit()
    if limit is not None and needed > limit:
        raise OutOfMemoryError(
            f"{in_memory(needed)} are needed, this machine gives {in_memory(limit)}; take a smaller model, a smaller "
            "batch_size or block_size, or gradient_checkpointing"
        )
