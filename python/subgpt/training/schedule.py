"""The learning rate as a pure function of the step, so that a resumed run needs no state for it.

Warm-up is nanoGPT's: step `it` of `warmup` (from 0) has rate x (it + 1) / (warmup + 1), so the first step
already learns and the rate itself comes right after. Then constant, a straight line or half a cosine down to
`minimum`, reached at step `decay_steps` and kept.
"""

import math


def learning_rate_at(
    step: int, *, kind: str, peak: float, minimum: float, warmup_steps: int, decay_steps: int
) -> float:
    """Give the rate of update number `step`, counted from 0.

    kind: "constant", "linear" or "cosine".

    >>> settings = {"kind": "linear", "peak": 1.0, "minimum": 0.0, "warmup_steps": 1, "decay_steps": 5}
    >>> [learning_rate_at(step, **settings) for step in range(5)]
    [0.5, 1.0, 0.75, 0.5, 0.25]
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if kind == "constant":
        return peak
    part = min(1.0, (step - warmup_steps) / max(1, decay_steps - warmup_steps))
    shape = 1.0 - part if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * part))
    return minimum + shape * (peak - minimum)


def muon_over_adam(adjust_lr: str) -> float:
    """Give the learning rate that fits Muon's matrices, in units of the one that fits AdamW.

    >>> muon_over_adam("original"), muon_over_adam("match_rms_adamw")
    (20.0, 1.0)
    """
    return 20.0 if adjust_lr == "original" else 1.0
