"""What a learning-rate range test saw, and the rate that it recommends."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

EDGE = 0.05
"""Share of the steps at the end in which a lowest loss says that the range was too narrow, not where the best is."""


@dataclass(frozen=True)
class LrFind:
    """One entry a step: the rate, the mean loss in nats before that update, and the loss smoothed.

    lowest: the rate at which the smoothed loss was lowest. steepest: the rate at which it fell fastest, per factor of
    the rate. Both are None where it never fell. diverged: the test ended because the loss rose beyond bounds, or was no
    number any more. optimizer: whose rates these are.
    """

    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    lowest: float | None
    steepest: float | None
    diverged: bool
    optimizer: str = "adamw"

    @property
    def tenth(self) -> float | None:
        """A tenth of the rate at which the smoothed loss was lowest."""
        return None if self.lowest is None else self.lowest / 10

    @property
    def recommended(self) -> str:
        """Which of the two it is: "steepest", "tenth", or "" where the loss never fell.

        The steepest, where the loss gains most: runs with it are ahead of those with the tenth, which is often too
        careful. But it is the slope of a noisy curve, so that it counts only if it lies where it should, between a
        tenth and a third of the rate of the lowest loss; else the tenth does.
        """
        if self.lowest is None or self.steepest is None:
            return ""
        return "steepest" if self.lowest / 10 <= self.steepest <= self.lowest / 3 else "tenth"

    @property
    def suggestion(self) -> float | None:
        """The rate to train with, as `learning_rate`; None where the loss never fell."""
        if self.recommended == "steepest":
            return self.steepest
        return self.tenth

    @property
    def reason(self) -> str:
        """Say in one sentence why this rate, or why none."""
        if self.lowest is None:
            low, high = self.learning_rates[0], self.learning_rates[-1]
            return (
                f"the loss did not fall between {low:.1e} and {high:.1e}; try a lower minimum, or more steps"
            )
        if self.recommended == "steepest":
            said = f"the loss falls fastest there, and it is lowest at {self.lowest:.1e}, well above"
        else:
            said = (
                f"a tenth of {self.lowest:.1e}, where the loss was lowest; it fell fastest at {self.steepest:.1e}, "
                "which is too far from a tenth to a third of that to be trusted"
            )
        if not self.diverged and self.learning_rates.index(self.lowest) >= (1 - EDGE) * len(self.losses):
            said += "; it was still falling at the end of the range, so a higher maximum would say more"
        return said

    def plot(self, path: str | Path) -> Path:
        """Draw loss against rate into `path` (PNG, SVG or PDF); needs the extra `plot`."""
        from subgpt.search.lr_plot import save_lr_plot

        return save_lr_plot(self, path)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON; a loss that is no number is None."""
        return {
            "suggestion": self.suggestion,
            "recommended": self.recommended,
            "reason": self.reason,
            "lowest": self.lowest,
            "tenth": self.tenth,
            "steepest": self.steepest,
            "diverged": self.diverged,
            "optimizer": self.optimizer,
            "learning_rates": list(self.learning_rates),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses],
            "smoothed": [loss if math.isfinite(loss) else None for loss in self.smoothed],
        }

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        from subgpt.search.lr_plot import lr_figure
        from subgpt.training.plot import shown

        return shown(str(self), lambda: lr_figure(self))

    def __str__(self) -> str:
        if self.suggestion is None:
            return f"no learning rate found: {self.reason}"
        return f"learning rate {self.suggestion:.1e}: {self.reason}"


def judge(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], **facts: Any) -> LrFind:
    """Find where the smoothed loss was lowest, and where it fell fastest on the way there."""
    best = min(range(len(smoothed)), key=lambda i: smoothed[i] if math.isfinite(smoothed[i]) else math.inf)
    slopes = [
        (after - before) / math.log(high / low)
        for (before, after), (low, high) in zip(
            pairwise(smoothed[: best + 1]), pairwise(rates[: best + 1]), strict=True
        )
    ]
    found = best > 0 and min(slopes) < 0
    steepest = rates[slopes.index(min(slopes)) + 1] if found else None
    return LrFind(
        tuple(rates),
        tuple(losses),
        tuple(smoothed),
        lowest=rates[best] if found else None,
        steepest=steepest,
        **facts,
    )
