"""The loss of direct preference optimization, with its gradient, in float64.

    delta = (chosen - rejected) - (ref_chosen - ref_rejected)
    loss  = -(1 - e) log sigmoid(beta delta) - e log sigmoid(-beta delta)

of log-probabilities of whole answers, by the model and by the one it began as (ref); e is the label smoothing.
Rafailov et al.: "Direct preference optimization: your language model is secretly a reward model", 2023; TRL's
`loss_type="sigmoid"`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.errors import InvalidValueError, ShapeError

F64 = npt.NDArray[np.float64]


class DPOLoss(NamedTuple):
    """The loss of each pair, its derivative by `chosen` (that by `rejected` is its negative), and the rewards."""

    losses: F64
    grad_chosen: F64
    reward_chosen: F64
    reward_rejected: F64


def dpo_loss(
    chosen: npt.ArrayLike,
    rejected: npt.ArrayLike,
    ref_chosen: npt.ArrayLike,
    ref_rejected: npt.ArrayLike,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> DPOLoss:
    """Give the loss of each pair in nats; all arrays (n,).

    beta: how far the model may leave the reference, smaller is farther. label_smoothing: the share of pairs whose
    preference is thought to be wrong, below 0.5.

    >>> dpo_loss([-5.0], [-5.0], [-5.0], [-5.0]).losses.round(4).tolist()
    [0.6931]
    """
    if not (np.isfinite(beta) and beta > 0):
        raise InvalidValueError(f"dpo_loss: beta = {beta!r} is not a number above 0; 0.1 is usual")
    if not 0 <= label_smoothing < 0.5:
        raise InvalidValueError(
            f"dpo_loss: label_smoothing = {label_smoothing!r} is not in [0, 0.5); 0 is usual"
        )
    arrays = [np.asarray(x, dtype=np.float64) for x in (chosen, rejected, ref_chosen, ref_rejected)]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 1:
        raise ShapeError(f"dpo_loss: the log-probabilities have the shapes {shapes}; all must be (n,)")
    c, r, rc, rr = arrays
    delta = beta * ((c - r) - (rc - rr))
    right, wrong = np.logaddexp(0, -delta), np.logaddexp(0, delta)
    losses = (1 - label_smoothing) * right + label_smoothing * wrong
    # sigmoid(-x) = exp(-softplus(x)), which cannot overflow.
    slope = label_smoothing * np.exp(-right) - (1 - label_smoothing) * np.exp(-wrong)
    return DPOLoss(losses, beta * slope, beta * (c - rc), beta * (r - rr))
