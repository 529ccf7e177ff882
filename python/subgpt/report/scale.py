"""Arithmetic that a drawing by hand needs: round tick values, fewer points, the range to show."""

import math
from collections.abc import Sequence

from subgpt.training.plot import Panel


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Give about `count` round values (1, 2 or 5 times a power of ten) that lie in `[low, high]`.

    >>> ticks(0.0, 9.0)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    span = high - low
    if not math.isfinite(span) or span <= 0:
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def thin(values: Sequence[float], limit: int = 600) -> list[int]:
    """Pick at most about `limit` positions of `values`, evenly spread, the last one always among them."""
    stride = max(1, len(values) // limit)
    kept = list(range(0, len(values), stride))
    if values and kept[-1] != len(values) - 1:
        kept.append(len(values) - 1)
    return kept


def bounds(panel: Panel) -> tuple[float, float, float, float]:
    """Find a panel's first step, last step, lowest and highest loss, with a little air above and below.

    Values that are not finite are left out; an empty panel gives the unit square.
    """
    lines = panel.drawable()
    steps = [s for line in lines for s in line.steps]
    losses = [v for line in lines for v in line.losses]
    if not steps:
        return 0.0, 1.0, 0.0, 1.0
    low, high = min(losses), max(losses)
    air = 0.06 * (high - low) or 0.5
    first, last = min(steps), max(steps)
    return float(first), float(max(last, first + 1)), low - air, high + air
