"""How much memory a training run will take, by what it is for.

Everything native is exact arithmetic over the shape, asked of a model of that shape. A model that is large
beside this machine is not made for that: parameters, gradients and activations grow by the same for each
block, so models of one and of two blocks tell. Where some of its blocks are frozen, that is a bound from above: they
count as if they were trained.
"""

import math

from subgpt.machine import memory_limit
from subgpt.model.config import GPTConfig
from subgpt.model.frozen import block_of, frozen_names, same_in_all_blocks
from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.start import prepare

LARGE = 1 << 30
"""Bytes of parameters from which on a model is not made only to be measured."""

# Floats that each optimizer keeps for each weight of the blocks' matrices, and for every other parameter.
_MOMENTS = {"adamw": (2, 2), "sgd": (1, 1), "lion": (1, 1), "muon": (1, 2)}


def native_memory(model: GPTConfig, config: TrainConfig) -> dict[str, int]:
    """Give the bytes of a run's native buffers: moments, what it trains with, and what validation adds."""
    if not is_large(model):
        return _ask(model, config)
    config = for_few_blocks(model, config)
    one, two = (_ask(with_blocks(model, layers), config) for layers in (1, 2))
    return {name: max(0, one[name] + (model.n_layer - 1) * (two[name] - one[name])) for name in one}


def is_large(model: GPTConfig) -> bool:
    """Tell whether a model should not be made just to be measured."""
    limit = memory_limit()
    return 4 * model.num_params() > min(LARGE, LARGE if limit is None else limit // 8)


def with_blocks(model: GPTConfig, count: int) -> GPTConfig:
    """Give the same shape with `count` blocks, the first ones where its blocks differ."""
    differ = {"layer_types": model.layer_types, "rope_layers": model.rope_layers}
    lists = {name: (each * count)[:count] for name, each in differ.items() if each is not None}
    return model.replace(n_layer=count, **lists)


def for_few_blocks(model: GPTConfig, config: TrainConfig) -> TrainConfig:
    """Give the settings for models of one and of two of its blocks: what freezes some of many blocks is left out.

    Raises ConfigError for what freezes nothing in `model` itself.
    """
    names = GPT.blank(with_blocks(model, 1)).native.tensor_names()
    return config.replace(freeze=",".join(same_in_all_blocks(names, config.frozen, model.n_layer)))


def _optimizer_bytes(model: GPT, config: TrainConfig) -> int:
    """Give the bytes of an optimizer's moments for what is trained."""
    of_matrix, of_other = _MOMENTS[config.optimizer]
    if config.optimizer == "sgd" and config.momentum == 0:
        return 0
    trained = model.num_trained()
    matrices = trained if config.lora else _trained_matrices(model, config)
    return 4 * (of_matrix * matrices + of_other * (trained - matrices))


def _trained_matrices(model: GPT, config: TrainConfig) -> int:
    """Count the weights in the matrices of the blocks that are not frozen."""
    frozen = frozen_names(model.native.tensor_names(), config.frozen)
    return sum(
        math.prod(shape)
        for name, shape in model.native.tensor_shapes()
        if len(shape) > 1 and block_of(name) is not None and name not in frozen
    )


def _ask(model: GPTConfig, config: TrainConfig) -> dict[str, int]:
    made = GPT.blank(model, dtype=config.dtype or "float32")
    prepare(made, config)
    return memory_of(made, config)


def memory_of(model: GPT, config: TrainConfig) -> dict[str, int]:
    """Give the same for a model that is made, and prepared to train as `config` says."""
    block_size = config.block_size or model.config.block_size
    training = dict(model.native.memory(config.batch_size, block_size, True))
    inference = model.native.memory(config.batch_size, block_size, False)
    validates = config.val_fraction > 0
    validation = inference["activations"] if validates else 0
    return {"optimizer": _optimizer_bytes(model, config), **training, "validation": validation}
