"""Tells a loss that has left its course, before the weights follow it.

A loss or gradient that is not finite always has. A finite loss has when it lies more than `spike_z_score` standard
deviations above the mean of the last 128, as OLMo's guard counts (Groeneveld et al., 2024, arXiv 2402.00838). What then
happens is `on_spike`: "stop", "ignore", or "rollback", which goes back to a checkpoint and passes over the batches that
led there, as PaLM's authors did by hand (Chowdhery et al., 2022, arXiv 2204.02311, section 5.1).

Losses are compared in the order in which they were seen and are a part of a checkpoint, so that a resumed run judges as
the unbroken one does.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from subgpt.errors import LossError
from subgpt.model.gpt import GPT

WINDOW = 128
"""Losses that are compared to."""
LEAST = 64
"""Losses below which nothing is judged: the first ones fall too fast."""
FLOOR = 0.05
"""Nats below which a deviation is not taken for one: of a text learnt by heart every loss is almost the same."""

_LAYER = re.compile(r"\.(?:h|layers)\.(\d+)\.")


class BadStepError(LossError):
    """An update that must not be made, or a weight that broke in one.

    step: its number from 1. loss: in nats, maybe not finite. z_score: in deviations, None for what is not finite.
    tensor: the first that is not finite, or the one with the largest gradient; None if there is none to name.
    """

    def __init__(
        self, message: str, step: int, loss: float, z_score: float | None = None, tensor: str | None = None
    ) -> None:
        super().__init__(message)
        self.step, self.loss, self.z_score, self.tensor = step, loss, z_score, tensor

    def record(self) -> dict[str, Any]:
        """Give it as plain values; a number that JSON does not have is None."""
        z_score = None if self.z_score is None else round(self.z_score, 2)
        loss = self.loss if math.isfinite(self.loss) else None
        return {"spike_step": self.step, "spike_loss": loss, "z_score": z_score, "tensor": self.tensor}


def z_score(recent: Sequence[float], loss: float) -> float | None:
    """Tell how many standard deviations `loss` lies above the mean of `recent`; None if those are too few to tell.

    >>> z_score([2.0, 2.2] * 40, 3.1)
    10.0
    >>> z_score([2.0] * 10, 99.0) is None
    True
    """
    if len(recent) < LEAST:
        return None
    values = np.asarray(recent, np.float64)
    return round(float((loss - values.mean()) / max(float(values.std()), FLOOR)), 9)


def remember(recent: list[float], loss: float) -> None:
    """Add a loss to those that are compared to, and forget the oldest."""
    recent.append(loss)
    del recent[:-WINDOW]


def is_spike(recent: Sequence[float], loss: float, limit: float) -> bool:
    """Tell whether `loss` lies more than `limit` deviations above `recent`."""
    score = z_score(recent, loss)
    return score is not None and score > limit


def spiked(model: GPT, recent: Sequence[float], loss: float, step: int) -> BadStepError:
    """Make the error for a loss that leapt, naming the tensor with the largest gradient; clear the gradients."""
    score = z_score(recent, loss) or 0.0
    tensor, norm = _largest_gradient(model)
    model.zero_grad()
    return BadStepError(
        f"step {step}: loss {loss:.4f} is {score:.1f} deviations above the mean of the last {len(recent)}, "
        f"{np.mean(recent):.4f}; the largest gradient is that of {name_tensor(tensor)} (norm {norm:.3g}); lower "
        "learning_rate or set max_grad_norm, or go on with on_spike='rollback' or 'ignore'",
        step,
        loss,
        score,
        tensor,
    )


def not_finite(model: GPT, loss: float, norm: float, step: int) -> BadStepError:
    """Make the error for a broken step, naming the first tensor that is broken; clear the gradients."""
    weight = model.native.first_nonfinite("param")
    gradient = model.native.first_nonfinite("grad")
    model.zero_grad()
    where = "the loss itself"
    if weight:
        where = f"weight {name_tensor(weight)}"
    elif gradient:
        where = f"gradient of {name_tensor(gradient)}"
    return BadStepError(
        f"step {step}: loss {loss:g}, gradient norm {norm:g}, first not finite: {where}; checkpoints made "
        "before are good: lower learning_rate, lengthen warmup_steps or set max_grad_norm, and start again; "
        "on_spike='rollback' has a run go back by itself",
        step,
        loss,
        tensor=weight or gradient,
    )


def check_weights(model: GPT, step: int) -> None:
    """Raise BadStepError if a weight is not finite after update `step`."""
    if (broken := model.native.first_nonfinite("param")) is not None:
        raise BadStepError(
            f"step {step}: weight {broken} is not finite any more{_layer(broken)}; lower learning_rate",
            step,
            math.nan,
            tensor=broken,
        )


def name_tensor(name: str) -> str:
    """Write a tensor's name and its layer, counted from 0.

    >>> name_tensor("transformer.h.3.mlp.c_fc.weight")
    'transformer.h.3.mlp.c_fc.weight (layer 3)'
    """
    return f"{name}{_layer(name)}"


def _layer(name: str) -> str:
    found = _LAYER.search(name)
    return f" (layer {found[1]})" if found else ""


def _largest_gradient(model: GPT) -> tuple[str, float]:
    """Find the trained tensor whose gradient is the longest, and its length."""
    norms = {name: float(np.linalg.norm(value)) for name, value in model.grads().items()}
    return max(norms.items(), key=lambda entry: entry[1])
