"""One step of gradient descent on one sentence, with its numbers: `new_w = old_w - alpha * d`.

Plain stochastic gradient descent, by hand in NumPy: no momentum, no decay, no clipping.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.adapters.attach import refuse_adapters
from subgpt.errors import DataError, InvalidValueError
from subgpt.evaluation.next_tokens import token_text
from subgpt.generation.prompt import prompt_ids
from subgpt.inside.meaning import meaning_of
from subgpt.inside.worked_example import write
from subgpt.model.fit import check_fit
from subgpt.model.gpt import GPT

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

_LARGEST_RATE = 1e6  # far beyond use, and its steps are still float32 numbers
_Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class WeightStep:
    """One weight: its tensor and place in it, in words too, its value before, its gradient, its value after."""

    tensor: str
    index: tuple[int, ...]
    meaning: str
    old: float
    gradient: float
    new: float

    @property
    def name(self) -> str:
        """The tensor with the place, as NumPy writes it."""
        return f"{self.tensor}[{', '.join(map(str, self.index))}]"


@dataclass(frozen=True)
class RateTrial:
    """What one step with another learning rate would have done, from the same start: the loss after it."""

    learning_rate: float
    loss: float


@dataclass(frozen=True)
class StepExplanation:
    """One step of gradient descent on `tokens`, the first of which is given and each other foretold.

    losses: mean loss in nats before the first step, and after each; not finite where a step went too far.
    gradient_norm: length of the gradient of all num_trained weights. weights: those with the largest gradients, each of
    another tensor. trials: other learning rates, from the same start. `str` gives the whole as a worked example.
    """

    tokens: tuple[str, ...]
    vocab_size: int
    num_trained: int
    learning_rate: float
    gradient_norm: float
    weights: tuple[WeightStep, ...]
    losses: tuple[float, ...]
    trials: tuple[RateTrial, ...]

    @property
    def loss_before(self) -> float:
        """The loss before the step."""
        return self.losses[0]

    @property
    def loss_after(self) -> float:
        """The loss after the (first) step."""
        return self.losses[1]

    @property
    def foretold_change(self) -> float:
        """By how much the loss would change if it were a straight line: -alpha times the squared gradient norm."""
        return -self.learning_rate * self.gradient_norm**2

    def __str__(self) -> str:
        return write(self)


def explain_step(
    model: GPT, tokenizer: "Tokenizer", text: str, *, lr: float = 0.1, steps: int = 1, weights: int = 5
) -> StepExplanation:
    """Make a step of gradient descent on `text` and tell what it did; the model stays as it is.

    lr: the learning rate alpha. steps: how many steps `losses` goes through. weights: how many weights to show. All is
    done on a copy in float32, without dropout; frozen weights stay as they are.

    Raises DataError for a text of less than two tokens or more than block_size + 1, InvalidValueError for an option out
    of range, ConfigError for a model with adapters.

    >>> from subgpt.inside.tiny import tiny_model
    >>> model, tokenizer = tiny_model("gradient descent")
    >>> told = explain_step(model, tokenizer, "gradient descent", lr=0.5)
    >>> told.loss_after < told.loss_before
    True
    """
    rate = _rate(lr)
    _check_whole("steps", steps)
    _check_whole("weights", weights)
    refuse_adapters(model, "explain_step")
    check_fit(model, tokenizer, "explain_step")
    ids = _ids(tokenizer, text, model.config.block_size)
    twin = _twin(model)
    start = {name: twin.native.tensor(name, "param") for name in _core.trained_names(twin.native)}

    def loss_after(weights: _Tensors, slopes: _Tensors, alpha: float) -> float:
        _descend(twin, weights, slopes, alpha)
        return twin.loss(ids[:-1], ids[1:])

    losses = [twin.backward(ids[:-1], ids[1:])]
    norm, slopes = twin.grad_norm(), twin.grads()
    others = (rate / 10, rate, rate * 10, rate * 100)
    trials = tuple(RateTrial(alpha, loss_after(start, slopes, alpha)) for alpha in others)
    losses.append(loss_after(start, slopes, rate))
    shown = _largest(start, slopes, twin, tokenizer)[:weights]
    for _ in range(steps - 1):
        twin.zero_grad()
        twin.backward(ids[:-1], ids[1:])
        here = {name: twin.native.tensor(name, "param") for name in start}
        losses.append(loss_after(here, twin.grads(), rate))
    texts = tuple(token_text(tokenizer, token) for token in ids.tolist())
    trained = sum(value.size for value in start.values())
    return StepExplanation(texts, model.config.vocab_size, trained, rate, norm, shown, tuple(losses), trials)


def _descend(twin: GPT, weights: _Tensors, slopes: _Tensors, alpha: float) -> None:
    """The whole of gradient descent: every weight goes against its slope, alpha times as far."""
    for name, old_w in weights.items():
        d = slopes[name]
        new_w = old_w - np.float32(alpha) * d
        twin.native.set_tensor(name, new_w)


def _largest(start: _Tensors, slopes: _Tensors, twin: GPT, tokenizer: "Tokenizer") -> tuple[WeightStep, ...]:
    """Take the weight with the largest gradient of each tensor, the largest of these first."""
    found = []
    for name, slope in slopes.items():
        at = np.unravel_index(int(np.abs(slope).argmax()), slope.shape)
        index = tuple(int(i) for i in at)
        old, d, new = (float(x[at]) for x in (start[name], slope, twin.native.tensor(name, "param")))
        found.append(WeightStep(name, index, meaning_of(name, index, tokenizer), old, d, new))
    return tuple(sorted(found, key=lambda step: (-abs(step.gradient), step.tensor)))


def _twin(model: GPT) -> GPT:
    """Copy a model to make steps with: float32, nothing falls out, what is frozen stays frozen."""
    twin = GPT.blank(model.config.replace(dropout=0.0))
    twin.load_state_dict(model.state_dict())
    _core.train_only(twin.native, set(_core.trained_names(model.native)))
    return twin


def _ids(tokenizer: "Tokenizer", text: str, block_size: int) -> npt.NDArray[np.uint32]:
    ids = prompt_ids(tokenizer, text)
    if not 2 <= len(ids) <= block_size + 1:
        raise DataError(
            f"explain_step: text is {len(ids)} tokens long; give a sentence of 2 to {block_size + 1} tokens "
            "(block_size + 1)"
        )
    return ids


def _rate(lr: float) -> float:
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr <= _LARGEST_RATE:
        raise InvalidValueError(
            f"explain_step: lr is {lr!r}; give a number above 0 and up to {_LARGEST_RATE:g}, such as 0.1"
        )
    return float(lr)


def _check_whole(name: str, value: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise InvalidValueError(f"explain_step: {name} is {value!r}; give an integer of 1 or more")
