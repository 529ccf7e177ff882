"""A setting against the loss, as inline SVG: one dot a trial, the best in another colour."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from subgpt.report.scale import ticks

WIDTH, HEIGHT = 320, 220
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 30, 36
_WIDE = 20
"""From this factor between the ends on, values are spread by factors."""


class Dot(NamedTuple):
    """One trial: its value of the setting, a number or a text, its loss, and what is said when it is pointed at."""

    value: object
    loss: float
    label: str


def scatter_svg(title: str, dots: Sequence[Dot]) -> str:
    """Draw the dots, which lie in order of their loss, as one `<svg>` element; every text in it is escaped."""
    across, marks = _across([dot.value for dot in dots])
    low, high = min(dot.loss for dot in dots), max(dot.loss for dot in dots)
    air = 0.08 * (high - low) or 0.5
    low, high = low - air, high + air
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT

    def x(place: float) -> float:
        return LEFT + 14 + place * (right - LEFT - 28)

    def y(loss: float) -> float:
        return floor - (loss - low) / (high - low) * (floor - TOP)

    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)} against validation loss, best {escape(dots[0].label)}">',
        f'<text class="title" x="0" y="16">{escape(title)}</text>',
    ]
    for loss in ticks(low, high, 4):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(loss):.1f}" y2="{y(loss):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:g}</text>'
        )
    for place, text in marks:
        parts.append(
            f'<text class="tick" x="{x(place):.1f}" y="{floor + 18}" text-anchor="middle">{escape(text)}</text>'
        )
    for place, dot in reversed(list(zip(across, dots, strict=True))):  # the best last, on top
        role = "validation" if dot is dots[0] else "other"
        parts.append(
            f'<g class="{role}"><circle cx="{x(place):.1f}" cy="{y(dot.loss):.1f}" r="4.5">'
            f"<title>{escape(dot.label)}</title></circle></g>"
        )
    return "".join([*parts, "</svg>"])


def _across(values: Sequence[object]) -> tuple[list[float], list[tuple[float, str]]]:
    """Give each value's place from 0 to 1, and the marks of the axis with theirs."""
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values):  # texts and truth values stand beside each other
        words = sorted(set(map(str, values)))
        places = {word: i / max(1, len(words) - 1) if len(words) > 1 else 0.5 for i, word in enumerate(words)}
        return [places[str(value)] for value in values], [(places[word], word[:12]) for word in words[:6]]
    low, high = min(numbers), max(numbers)
    if low == high:
        return [0.5] * len(numbers), [(0.5, f"{low:g}")]
    by_factors = low > 0 and high / low >= _WIDE
    a, b = (math.log(low), math.log(high)) if by_factors else (low, high)

    def place(number: float) -> float:
        return ((math.log(number) if by_factors else number) - a) / (b - a)

    distinct = sorted(set(numbers))
    if len(distinct) <= 5:
        return [place(number) for number in numbers], [(place(number), f"{number:g}") for number in distinct]
    if by_factors:
        powers = [
            10.0**k
            for k in range(math.ceil(a / math.log(10) - 1e-9), math.floor(b / math.log(10) + 1e-9) + 1)
        ]
        marked = powers[:: max(1, len(powers) // 4)] or [low, high]
    else:
        marked = ticks(low, high, 4)
    return [place(number) for number in numbers], [(place(number), f"{number:g}") for number in marked]
