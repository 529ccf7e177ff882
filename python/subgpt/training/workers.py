"""Who makes the updates of a run: `Workers`, which is one process; `distributed.Team` is the same for several.

Every method is called by all of them, at the same place of the run.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from subgpt.evaluation.measure import Evaluation, HeldOut, measure
from subgpt.model.gpt import GPT
from subgpt.training.objective import Loss, Objective
from subgpt.training.optimizers import Optimizer

if TYPE_CHECKING:
    from subgpt.training.config import TrainConfig

T = TypeVar("T")
MakeOptimizer = Callable[[], Optimizer]


class Workers:
    """One process, which does everything itself."""

    is_main = True
    """Whether this process has the run's directory, and tells of the run."""

    @contextmanager
    def at_work(self) -> Iterator["Workers"]:
        """Use as a context from the beginning of a run to its end."""
        yield self

    @contextmanager
    def together(self, _doing: str) -> Iterator[None]:
        """What fails inside in one process ends it for all, each with an error."""
        yield

    def prepare(self, model: GPT, config: "TrainConfig") -> None:
        """Divide the work of an update; ConfigError if it cannot be divided as `config` says."""

    def from_main(self, value: Callable[[], T]) -> T:
        """Give what `value` is in the main process; it must be plain values."""
        return value()

    def check_same(self, what: str, value: Callable[[], str]) -> None:
        """Raise DataError if `value` is not the same for all."""

    def any(self, flag: bool) -> bool:
        """Tell whether `flag` is true for one of them."""
        return flag

    def adopt(self, model: GPT, optimizer: Optimizer, restored: Optimizer | None = None) -> None:
        """Take the weights, and the moments of the `restored` optimizer, from the main process."""

    def whole(self, optimizer: Optimizer, make: MakeOptimizer) -> Optimizer | None:
        """Give an optimizer with all moments to the main process, made by `make` if it takes one; None to others."""
        del make
        return optimizer

    def share_weights(self, model: GPT) -> None:
        """Give all the weights of the main process."""

    def backward(self, model: GPT, objective: Objective, batches: Sequence[Any]) -> Loss:
        """Add the gradient of the mean over all `batches` to the model's."""
        return objective.backward(model, batches)

    def clip(self, model: GPT, max_norm: float) -> float:
        """Scale the gradients down to `max_norm` (0: never); give their norm before."""
        return model.clip_grad_norm(max_norm) if max_norm else model.grad_norm()

    def complete(self, model: GPT) -> None:
        """Have all gradients in every process: some may have but a part."""

    def step(self, model: GPT, optimizer: Optimizer, rate: float) -> None:
        """Update the weights once."""
        del model
        optimizer.step(rate)

    def measure(self, model: GPT, held_out: HeldOut) -> Evaluation:
        """Measure the held-out loss."""
        return measure(model, held_out)

    def describe(self, config: "TrainConfig") -> list[str]:
        """Lines to tell at the beginning."""
        if config.zero_stage == 0 and config.gradient_compression == "none":
            return []
        return [
            "this is the only process, so that zero_stage and gradient_compression have nothing to divide"
        ]


ALONE = Workers()
"""This process."""
