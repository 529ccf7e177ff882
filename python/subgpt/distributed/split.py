"""Who computes which rows of an update.

An update has `gradient_accumulation_steps` batches of `batch_size` rows, however many processes there are: their
number changes who computes a row, not which rows there are. Batches are dealt out first, as each is a pass of its own;
what is left over divides the rows of a batch.

>>> Split.of(rank=5, size=8, batch_size=16, passes=4)
Split(batches=range(2, 3), part=1, parts=2)
>>> Split.of(rank=5, size=8, batch_size=16, passes=4).rows(16)
(8, 16)
"""

from math import gcd
from typing import NamedTuple

from subgpt.errors import ConfigError


class Split(NamedTuple):
    """What one process has of an update: `part` of `parts` of each of `batches`, by their numbers."""

    batches: range
    part: int
    parts: int

    @classmethod
    def of(cls, *, rank: int, size: int, batch_size: int, passes: int) -> "Split":
        """Give the share of `rank`; ConfigError if shares cannot be equal."""
        groups = gcd(size, passes)
        parts = size // groups
        if batch_size % parts:
            raise ConfigError(
                f"{size} processes cannot share an update of gradient_accumulation_steps = {passes} batches of "
                f"batch_size = {batch_size} rows equally: each batch is divided by {parts}; "
                f"use batch_size = {-(-batch_size // parts) * parts}, or gradient_accumulation_steps = {size}"
            )
        each = passes // groups
        first = rank // parts * each
        return cls(range(first, first + each), rank % parts, parts)

    def rows(self, rows: int) -> tuple[int, int]:
        """Give the first row of its part of a batch, and the one behind its last."""
        return self.part * rows // self.parts, (self.part + 1) * rows // self.parts
