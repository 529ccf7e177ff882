"""`SGD`, `AdamW`, `Lion` and `Muon` over a model's flat buffers.

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
from subgpt.training.schedule import muon_over_adam

DECAYS = ("matrices", "all")
ADJUSTMENTS = ("original", "match_rms_adamw")


class Optimizer:
    """What all optimizers share: the model, the default learning rate and `step`."""

    def __init__(self, model: GPT, learning_rate: float, settings: dict[str, Any]) -> None:
        if not isinstance(model, GPT):
            raise ConfigError(f"optimizer: model is {type(model).__name__}; give a GPT")
        self.model = model
        self.learning_rate = _check("learning_rate", learning_rate, 0.0, math.inf)
        self.native = _core.Optimizer(model.native, json.dumps(settings))

    def restrict(self, share: Sequence[tuple[int, int]] | None) -> None:
        """Update only the weights whose gradients lie in the pieces `share`, None for all, with fresh moments."""
        self.native = _core.Optimizer(self.model.native, self.native.config, share)

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
        settings = {
            "name": "adamw",
            **_betas(betas),
            "eps": _check("eps", eps, 0.0, 1.0),
            "weight_decay": _check("weight_decay", weight_decay, 0.0, math.inf),
            "decay": _choice("decay", decay, DECAYS),
        }
        super().__init__(model, learning_rate, settings)


class Lion(Optimizer):
    """The sign of a momentum, with decoupled weight decay (Chen et al., 2023, arXiv 2302.06675).

    ``w = (1 - learning_rate weight_decay) w - learning_rate sign(beta1 m + (1 - beta1) g)``, then
    ``m = beta2 m + (1 - beta2) g``. Every weight moves by the learning rate, so that it should be three to
    ten times smaller than AdamW's, and weight_decay larger by as much. decay: as in `AdamW`.

    >>> from subgpt.model.config import GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4), seed=0)
    >>> optimizer = Lion(model, learning_rate=1e-3)
    >>> loss = model.backward([[0, 1, 2]], [[1, 2, 3]])
    >>> optimizer.step()
    >>> model.loss([[0, 1, 2]], [[1, 2, 3]]) < loss
    True
    """

    def __init__(
        self,
        model: GPT,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.1,
        decay: str = "matrices",
    ) -> None:
        settings = {
            "name": "lion",
            **_betas(betas),
            "weight_decay": _check("weight_decay", weight_decay, 0.0, math.inf),
            "decay": _choice("decay", decay, DECAYS),
        }
        super().__init__(model, learning_rate, settings)


class Muon(Optimizer):
    """Orthogonalised momentum for the matrices of the blocks, AdamW for everything else (Jordan et al., 2024).

    For a matrix the momentum ``b = momentum b + (1 - momentum) g``, once more mixed with the gradient
    (Nesterov), is replaced by the nearest orthogonal matrix, roughly, by five Newton-Schulz steps in float32;
    the weights move by learning_rate times that times a scale that follows from the shape. Query, key and
    value projections are matrices of their own, also where one tensor holds them. Embeddings, the output
    projection, biases and gains are AdamW's, with betas, eps, decay and adam_learning_rate.

    learning_rate: of the matrices; 0.02 is a good start. adam_learning_rate: of the rest, by default what
    AdamW alone would be given: learning_rate / 20 with adjust_lr="original", learning_rate with
    "match_rms_adamw". A rate given to `step` is the matrices'; AdamW's changes in proportion.

    adjust_lr: the scale, by `torch.optim.Muon`'s names. "original" is sqrt(max(1, out / in)) for a layer of
    `in` inputs and `out` outputs; "match_rms_adamw" is 0.2 sqrt(max(out, in)), with which steps are as large
    as AdamW's and its rates fit (Liu et al., 2025).

    weight_decay: decoupled, times the rate of the tensor it is taken from.
    """

    def __init__(
        self,
        model: GPT,
        learning_rate: float,
        adam_learning_rate: float | None = None,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        adjust_lr: str = "original",
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        decay: str = "matrices",
    ) -> None:
        if _check("learning_rate", learning_rate, 0.0, math.inf) == 0.0:
            raise ConfigError("optimizer: learning_rate = 0; give Muon a number above 0, and 0 to step()")
        _choice("adjust_lr", adjust_lr, ADJUSTMENTS)
        if adam_learning_rate is None:
            adam_learning_rate = learning_rate / muon_over_adam(adjust_lr)
        adam_learning_rate = _check("adam_learning_rate", adam_learning_rate, 0.0, math.inf)
        settings = {
            "name": "muon",
            "momentum": _check("momentum", momentum, 0.0, 1.0),
            "adjust_lr": adjust_lr,
            "adam_rate": adam_learning_rate / learning_rate,
            **_betas(betas),
            "eps": _check("eps", eps, 0.0, 1.0),
            "weight_decay": _check("weight_decay", weight_decay, 0.0, math.inf),
            "decay": _choice("decay", decay, DECAYS),
        }
        super().__init__(model, learning_rate, settings)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Give `value` if it is one of `choices`, or raise ConfigError."""
    if value not in choices:
        raise ConfigError(f"optimizer: {name} = {value!r}; {did_you_mean(value, list(choices))}")
    return value


def _betas(betas: tuple[float, float]) -> dict[str, float]:
    """Give both as the native module's fields, or raise ConfigError."""
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise ConfigError(f"optimizer: betas = {betas!r}; give two numbers, such as (0.9, 0.95)")
    return {
        "beta1": _check("betas[0]", betas[0], 0.0, 1.0),
        "beta2": _check("betas[1]", betas[1], 0.0, 1.0),
    }


def _check(name: str, value: float, low: float, high: float) -> float:
    """Give `value` as a float in [low, high), or raise ConfigError."""
    if (
        isinstance(value, bool)
        or not hasattr(value, "__float__")
        or not low <= (number := float(value)) < high
    ):
        raise ConfigError(f"optimizer: {name} = {value!r}; give a number in [{low:g}, {high:g})")
    return number
