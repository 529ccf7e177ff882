"""The gradients of all processes become their sum, bucket by bucket.

Each process sends everybody the piece that is theirs, adds up what it gets for its own piece, in the order of ranks,
and sends the sum to all: as much traffic as the best all-reduce has, and the same bits for every process, MPI and
network. Where each updates its own piece alone, the second half is left to the weights.

With bfloat16 half as much is sent. What rounding takes is kept and added to what is sent next (error feedback), of
gradients by each process, of sums by their owner.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from subgpt import _core
from subgpt.distributed.group import F32, Group
from subgpt.distributed.ownership import own_range
from subgpt.model.listener import Bucket

Compression = Literal["none", "bf16"]


class Exchange:
    """Sums buckets.

    buckets, counts: each with how many of its numbers each process owns.
    """

    def __init__(
        self,
        group: Group,
        buckets: Sequence[Bucket],
        counts: Sequence[Sequence[int]],
        compression: Compression,
    ) -> None:
        self.group, self.buckets, self.counts = group, list(buckets), [list(each) for each in counts]
        self._narrow = compression == "bf16"
        self._left = [np.zeros(stop - start if self._narrow else 0, np.float32) for start, stop in buckets]
        mine = [each[group.rank] if self._narrow else 0 for each in counts]
        self._left_of_sums = [np.zeros(count, np.float32) for count in mine]

    def own(self, number: int) -> Bucket:
        """Give where the piece of a bucket lies that this process owns."""
        return own_range(self.buckets[number], self.counts[number], self.group.rank)

    def reduce(self, number: int, gradients: F32) -> F32:
        """Give the sum of the own piece of a bucket."""
        if self._narrow:
            sent = _core.narrow_with_feedback(gradients, self._left[number])
            return _core.sum_parts(self.group.exchange(sent, self.counts[number]), self.group.size)
        return _core.sum_parts(self.group.exchange(gradients, self.counts[number]), self.group.size)

    def spread(self, number: int, piece: F32) -> F32:
        """Give the sum of a whole bucket; `piece` is the own one."""
        if self._narrow:
            sent = _core.narrow_with_feedback(piece, self._left_of_sums[number])
            return _core.widen(self.group.collect(sent, self.counts[number]))
        return self.group.collect(piece, self.counts[number])

    def forget(self) -> None:
        """Drop what rounding took so far."""
        for left in (*self._left, *self._left_of_sums):
            left.fill(0.0)
