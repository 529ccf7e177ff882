"""The learning rate as a pure function of the step, so that a resumed run needs no state for it.

Warm-up is nanoGPT's: step `it` of `warmup` (from 0) has rate x (it + 1) / (warmup + 1), so the first step
already learns and the rate itself comes right after. Then one of

- constant: the highest rate to the end;
- linear, cosine: a straight line or half a cosine down to `minimum`;
- warmup_stable_decay: the highest rate, and over the last `num_decay_steps` updates down to `minimum`
  (Hu et al., "MiniCPM", 2024, arXiv 2404.06395). Up to where the rate falls a run does not depend on its
  length, so one run can be ended early, or be made longer from a checkpoint before the fall.

The lowest rate is reached at step `decay_steps` and kept.
"""

import math
from typing import Literal

DecayType = Literal["linear", "cosine", "1-sqrt"]


def learning_rate_at(
    step: int,
    *,
    kind: str,
    peak: float,
    minimum: float,
    warmup_steps: int,
    decay_steps: int,
    num_decay_steps: int = 0,
    decay_type: str = "linear",
) -> float:
    """Give the rate of update number `step`, counted from 0.

    kind: "constant", "linear", "cosine" or "warmup_stable_decay"; the last has `num_decay_steps` and
    `decay_type`, the shape of its fall: "linear", "cosine" or "1-sqrt".

    >>> settings = {"kind": "linear", "peak": 1.0, "minimum": 0.0, "warmup_steps": 1, "decay_steps": 5}
    >>> [learning_rate_at(step, **settings) for step in range(5)]
    [0.5, 1.0, 0.75, 0.5, 0.25]
    >>> settings |= {"kind": "warmup_stable_decay", "num_decay_steps": 2}
    >>> [learning_rate_at(step, **settings) for step in range(6)]
    [0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if kind == "constant":
        return peak
    falls = kind == "warmup_stable_decay"
    begin = max(warmup_steps, decay_steps - num_decay_steps) if falls else warmup_steps
    part = min(1.0, max(0, step - begin) / max(1, decay_steps - begin))
    return minimum + _falling(part, decay_type if falls else kind) * (peak - minimum)


def _falling(part: float, shape: str) -> float:
    """Go from 1 to 0 as `part` goes from 0 to 1."""
    if shape == "linear":
        return 1.0 - part
    return 1.0 - math.sqrt(part) if shape == "1-sqrt" else 0.5 * (1.0 + math.cos(math.pi * part))


def muon_over_adam(adjust_lr: str) -> float:
    """Give the learning rate that fits Muon's matrices, in units of the one that fits AdamW.

    >>> muon_over_adam("original"), muon_over_adam("match_rms_adamw")
    (20.0, 1.0)
    """
    return 20.0 if adjust_lr == "original" else 1.0
