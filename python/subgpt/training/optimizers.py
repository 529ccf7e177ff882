"""`SGD` and `AdamW` over a model's flat buffers. Moments live beside the weights, in the same layout.

Clipping is not part of a step: call `model.clip_grad_norm` before it.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from subgpt import _core
from subgpt.errors import ConfigError
from subgpt.model.gpt import GPT
from subgpt.spelling import did_you_mean


class Optimizer:
    """What both optimizers share: the model, the default learning rate and `step`."""

    def __init__(self, model: GPT, learning_rate: float, settings: dict[str, Any]) -> None:
        if not isinstance(model, GPT):
            raise ConfigError(f"optimizer: model is {type(model).__name__}; give a GPT")
        self.model = model
        self.learning_rate = _check("learning_rate", learning_rate, 0.0, math.inf)
        self.native = _core.Optimizer(model.native, json.dumps(settings))

    @property
    def steps(self) -> int:
        """Number of updates made so far."""
        return self.native.steps

    def step(self, learning_rate: float | None = None) -> None:
        """Update the weights once from the gradient buffer, which stays as it is."""
        rate = (
            self.learning_rate
            if learning_rate is None
            else _check("learning_rate", learning_rate, 0.0, math.inf)
        )
        self.native.step(self.model.native, rate)


class SGD(Optimizer):
    """Stochastic gradient descent: ``w = w - learning_rate * d``, exactly.

    d is the gradient g; with weight decay g + weight_decay w; with momentum the buffer b = momentum b + d
    (first step: b = d), as torch.optim.SGD without dampening.

    >>> from subgpt.model.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4), seed=0)
    >>> optimizer = SGD(model, learning_rate=0.1)
    >>> loss = model.backward([[0, 1, 2]], [[1, 2, 3]])
    >>> optimizer.step()
    >>> model.zero_grad()
    >>> model.loss([[0, 1, 2]], [[1, 2, 3]]) < loss
    True
    """

    def __init__(
        self, model: GPT, learning_rate: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        settings = {
            "name": "sgd",
            "momentum": _check("momentum", momentum, 0.0, 1.0),
            "weight_decay": _check("weight_decay", weight_decay, 0.0, math.inf),
        }
        super().__init__(model, learning_rate, settings)


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101).

    decay: "matrices" decays tensors of two dimensions (weights and embeddings) and spares biases and norms,
    as GPT-2 and nanoGPT; "all" decays everything, as torch.optim.AdamW does by default.
    """

    def __init__(
        self,
        model: GPT,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        decay: str = "matrices",
    ) -> None:
        if decay not in ("matrices", "all"):
            raise ConfigError(f"optimizer: decay = {decay!r}; {did_you_mean(decay, ['matrices', 'all'])}")
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise ConfigError(f"optimizer: betas = {betas!r}; give two numbers, such as (0.9, 0.95)")
        settings = {
            "name": "adamw",
            "beta1": _check("betas[0]", betas[0], 0.0, 1.0),
            "beta2": _check("betas[1]", betas[1], 0.0, 1.0),
            "eps": _check("eps", eps, 0.0, 1.0),
            "weight_decay": _check("weight_decay", weight_decay, 0.0, math.inf),
            "decay": decay,
        }
        super().__init__(model, learning_rate, settings)


def _check(name: str, value: float, low: float, high: float) -> float:
    """Give `value` as a float in [low, high), or raise ConfigError."""
    if (
        isinstance(value, bool)
        or not hasattr(value, "__float__")
        or not low <= (number := float(value)) < high
    ):
        raise ConfigError(f"optimizer: {name} = {value!r}; give a number in [{low:g}, {high:g})")
    return number
