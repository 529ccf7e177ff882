"""What a template may spend: a budget of characters and steps, and a time, so that no template can do harm.

A template is a program that comes with a model from anywhere. Whatever it does is paid for: a step of a loop, a
call, an operator cost one, a text or list that is made costs its size. All that it can hold in memory has been
paid for, so the budget bounds memory; and since no single operation is larger than the budget, looking at the
clock between operations bounds the time.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Undefined

FREE = 4_000_000
"""What a template may spend on any conversation, however short."""
FACTOR = 200
"""What it may spend beyond that for each character of the messages."""
SECONDS = 5.0
"""Processor time of one rendering."""
DEEPEST = 64
"""Most lists and mappings inside each other."""
_ELEMENT = 8  # what an entry of a list costs beside what it holds
_BITS = 1 << 14  # of the largest whole number
_LOOK = 64  # steps between looks at the clock


class LimitError(SecurityError):
    """A template wanted more than it may have."""


class Meter:
    """Counts down what is left of a budget, and looks at the clock."""

    def __init__(self, size: int, seconds: float = SECONDS) -> None:
        self.left = FREE + FACTOR * size
        self._until = time.thread_time() + seconds
        self._seconds = seconds
        self._look = _LOOK

    def spend(self, amount: int = 1) -> None:
        """Pay for a step, or for something of this size; before it is made, where it could be large."""
        self.left -= amount
        if self.left < 0:
            raise LimitError("it makes too much text or takes too many steps for the messages it was given")
        self._look -= 1
        if self._look <= 0:
            self._look = _LOOK
            if time.thread_time() > self._until:
                raise LimitError(f"it takes longer than {self._seconds:g} seconds")

    def made(self, value: Any) -> Any:
        """Pay for a value that was just made, and give it back."""
        if isinstance(value, str):
            self.spend(1 + len(value))
        elif isinstance(value, bool) or not isinstance(value, int):
            self.spend(1 + (_ELEMENT * len(value) if isinstance(value, Collection) else 0))
        else:
            self.whole(value.bit_length())
        return value

    def whole(self, bits: int) -> None:
        """Pay for a whole number of so many bits."""
        if bits > _BITS:
            raise LimitError("it computes with numbers that are too large")
        self.spend(1 + bits // 64)

    def weigh(self, value: Any, *, texts: bool = False) -> tuple[int, int]:
        """Pay for going through all that a value holds, a part as often as it is met.

        Lists that hold one list several times are small in memory and endless to look through.

        Args:
            value: Anything.
            texts: Whether the characters of texts count, and what cannot be written as text is refused.

        Returns:
            Its weight, and how deep it is.

        """
        weight = deepest = 0
        stack = [(value, 0)]
        while stack:
            part, depth = stack.pop()
            weight += _ELEMENT
            if isinstance(part, str):
                weight += len(part) if texts else 0
            elif isinstance(part, Collection) and not isinstance(part, (range, Undefined)):
                deepest = max(deepest, depth + 1)
                if deepest > DEEPEST:
                    raise LimitError(f"it nests lists more than {DEEPEST} deep")
                if weight + _ELEMENT * len(part) > self.left:
                    self.spend(self.left + 1)
                stack.extend((inner, depth + 1) for inner in part)
                if isinstance(part, Mapping):
                    stack.extend((inner, depth + 1) for inner in part.values())
            elif texts and not isinstance(part, (bool, int, float, type(None), Undefined)):
                raise SecurityError(f"it writes a {type(part).__name__}, which is no text")
            if weight > self.left:
                break
        self.spend(weight if deepest or texts else 1)
        return weight, deepest


_METER: ContextVar[Meter] = ContextVar("meter")


def meter() -> Meter:
    """Give the meter of the rendering that is going on."""
    return _METER.get()


@contextmanager
def metered(size: int) -> Iterator[Meter]:
    """Start a meter for messages of so many characters."""
    token = _METER.set(Meter(size))
    try:
        yield _METER.get()
    finally:
        _METER.reset(token)
