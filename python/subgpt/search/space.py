"""What a sweep searches: values or ranges of settings, and the trials that follow, in a grid or drawn.

Axes are written as on the command line: `learning_rate=1e-3,3e-3` are choices, `learning_rate=1e-4..1e-2` is a range,
`learning_rate=1e-4..1e-2:5` a range as five points. Between ends above zero a range of real numbers is logarithmic
(its points evenly spaced, and drawn with equal chance, in factors); one that begins at zero, and one of whole
numbers, is even.
"""

import itertools
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subgpt.errors import ConfigError

Values = dict[str, Any]
"""One trial's settings on the axes, by name."""

MOST = 10_000
"""Trials of one sweep, at most: a grid of many axes is larger than it looks."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both possible; `points` of them in a grid. Whole ones if both ends are."""

    low: float
    high: float
    points: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it is of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def logarithmic(self) -> bool:
        """Whether equal factors are as likely, not equal distances."""
        return self.low > 0 and not self.whole

    def at(self, share: float) -> float:
        """Give the number at `share` of the way, from 0 to 1."""
        if self.whole:
            return self.low + min(int(share * (self.high - self.low + 1)), int(self.high - self.low))
        if self.logarithmic:
            return _short(self.low * (self.high / self.low) ** share)
        return _short(self.low + share * (self.high - self.low))

    def grid(self) -> list[float]:
        """Give the points, ends included, without doubles."""
        count = self.points or 0
        if self.whole:
            places = [round(self.low + i * (self.high - self.low) / (count - 1)) for i in range(count)]
            return sorted(set(places))
        return [self.at(i / (count - 1)) for i in range(count)]

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" + (f":{self.points}" if self.points else "")


Axis = tuple[Any, ...] | Range


def parse_axis(text: str) -> tuple[str, Axis]:
    """Read `name=values`; ConfigError for what is no axis.

    >>> parse_axis("learning-rate=1e-3,3e-3")
    ('learning_rate', (0.001, 0.003))
    >>> parse_axis("n_layer=2..6")
    ('n_layer', Range(low=2, high=6, points=None))
    """
    name, equals, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    if not equals or not name:
        raise ConfigError(
            f"{text!r}: give an axis as name=values, such as learning_rate=1e-3,3e-3 or learning_rate=1e-4..1e-2"
        )
    return name, axis_of(name, values)


def axis_of(name: str, values: object) -> Axis:
    """Make an axis of what is written so, of a Range, or of several values.

    >>> axis_of("packing", "true,false"), axis_of("weight_decay", [0, 0.1])
    ((True, False), (0, 0.1))
    """
    if isinstance(values, str):
        values = _range(name, values) or tuple(_value(word) for word in values.split(",") if word.strip())
    if isinstance(values, Range):
        return _checked(name, values)
    if isinstance(values, Mapping | bytes) or not isinstance(values, Iterable):
        raise ConfigError(
            f"sweep: {name} = {values!r}; give a list of values, or a text such as '1e-4..1e-2'"
        )
    choices = tuple(map(_plain, values))
    if not choices:
        raise ConfigError(f"sweep: {name} has no values; give at least one, such as {name}=1e-3,3e-3")
    if len(set(map(repr, choices))) < len(choices):
        raise ConfigError(f"sweep: {name} = {', '.join(map(str, choices))}: a value is there twice; drop one")
    return choices


def grid(axes: Mapping[str, Axis]) -> list[Values]:
    """Combine every value of every axis with every other; the last axis changes fastest."""
    for name, axis in axes.items():
        if isinstance(axis, Range) and axis.points is None:
            raise ConfigError(
                f"sweep: {name} = {axis} is a range: give its number of points for a grid ({name}={axis}:5), or how "
                "many trials to draw (--random 20, random=20)"
            )
    columns = [axis.grid() if isinstance(axis, Range) else axis for axis in axes.values()]
    _bounded(math.prod(map(len, columns)))
    return [dict(zip(axes, row, strict=True)) for row in itertools.product(*columns)]


def draw(axes: Mapping[str, Axis], count: int, seed: int) -> list[Values]:
    """Draw `count` different trials; the first n of more are the same. Fewer where there are no more to be had."""
    if count < 1:
        raise ConfigError(f"sweep: random = {count}; give the number of trials to draw, 1 or more")
    _bounded(count)
    generator = random.Random(seed)
    drawn: dict[str, Values] = {}
    misses = 0
    while len(drawn) < count and misses < 1000:
        values = {name: _draw(axis, generator) for name, axis in axes.items()}
        misses = misses + 1 if (key := repr(values)) in drawn else 0
        drawn[key] = values
    return list(drawn.values())


def _draw(axis: Axis, generator: random.Random) -> Any:
    return axis.at(generator.random()) if isinstance(axis, Range) else generator.choice(axis)


def _range(name: str, text: str) -> Range | None:
    """Read `low..high` or `low..high:points`; None for anything else."""
    found = re.fullmatch(r"\s*([^.,:\s]\S*?)\.\.([^:,\s]+?)(?::(\d{1,6}))?\s*", text)
    if found is None:
        return None
    low, high = _value(found[1]), _value(found[2])
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)):
        raise ConfigError(f"sweep: {name} = {text}: the ends of a range are numbers, such as 1e-4..1e-2")
    return Range(low, high, int(found[3]) if found[3] else None)


def _checked(name: str, axis: Range) -> Range:
    axis = Range(_plain(axis.low), _plain(axis.high), _plain(axis.points))
    for end in (axis.low, axis.high):
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise ConfigError(
                f"sweep: {name} = {axis!r}: {end!r} is no end of a range; give numbers, such as 1e-4"
            )
    if not (math.isfinite(axis.low) and math.isfinite(axis.high) and axis.low < axis.high):
        raise ConfigError(f"sweep: {name} = {axis}: the first end of a range is the lower one")
    if axis.points is not None and axis.points < 2:
        raise ConfigError(f"sweep: {name} = {axis}: a range has at least 2 points, its ends")
    return axis


def _plain(value: Any) -> Any:
    """Make a number of NumPy's one of Python's, which JSON has."""
    return value.item() if isinstance(value, np.generic) else value


def _bounded(count: int) -> None:
    if count > MOST:
        raise ConfigError(
            f"sweep: {count:,} trials, and {MOST:,} are the most; give fewer values, or draw some (--random 20)"
        )


def _value(word: str) -> Any:
    """Read a number or a truth value; everything else is a text."""
    word = word.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _short(number: float) -> float:
    """Keep four digits: settings are read by people, and more make no difference."""
    return float(f"{number:.4g}")


def describe(values: Mapping[str, Any]) -> str:
    """Write a trial's values in a line.

    >>> describe({"learning_rate": 0.003, "n_layer": 2})
    'learning_rate=0.003 n_layer=2'
    """
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )


def axes_of(space: "Mapping[str, Any] | Sequence[str]") -> dict[str, Axis]:
    """Make the axes of a mapping from names to values, or of texts as on the command line."""
    if isinstance(space, Mapping):
        return {name: axis_of(name, values) for name, values in space.items()}
    axes: dict[str, Axis] = {}
    for text in space:
        name, axis = parse_axis(text)
        if name in axes:
            raise ConfigError(f"sweep: {name} is given twice; put its values together, by commas")
        axes[name] = axis
    return axes
