"""Who owns which part of the gradients: sums it, and updates it where each process updates a part.

Every bucket is divided among all processes, so that all have something to do whenever one is finished.
"""

from bisect import bisect_left
from collections.abc import Sequence

from subgpt.model.listener import Bucket

LINE = 16
"""Pieces are so many numbers, or a multiple: sums and updates of them take whole vectors."""


def snap(buckets: Sequence[Bucket], starts: Sequence[int]) -> list[Bucket]:
    """Move the bounds of buckets up to where a tensor begins, `starts`, so that none is cut.

    A piece of a tensor is finished with the bucket that its beginning lies in, which comes later.

    >>> snap([(60, 100), (20, 60), (0, 20)], [0, 10, 70])
    [(70, 100), (0, 70)]
    """
    made, high = [], buckets[0][1] if buckets else 0
    for low, _ in buckets:
        at = bisect_left(starts, low)
        low = 0 if low == 0 else (starts[at] if at < len(starts) else high)
        if low < high:
            made.append((low, high))
            high = low
    return made


def divide(bucket: Bucket, size: int, starts: Sequence[int] | None = None) -> list[int]:
    """Give how many numbers of a bucket each of `size` processes owns, in their order.

    starts: where pieces may begin; None: anywhere.

    >>> divide((0, 100), 3)
    [48, 48, 4]
    >>> divide((0, 100), 3, [0, 10, 70])
    [10, 60, 30]
    """
    begin, end = bucket
    if starts is None:
        piece = -(-(end - begin) // (size * LINE)) * LINE
        bounds = [min(begin + rank * piece, end) for rank in range(size + 1)]
        bounds[-1] = end
    else:
        allowed = [begin, *(start for start in starts if begin < start < end), end]
        ideal = [begin + rank * (end - begin) / size for rank in range(size + 1)]
        bounds = [min(allowed, key=lambda start, at=at: abs(start - at)) for at in ideal]  # type: ignore[misc]
    return [bounds[rank + 1] - bounds[rank] for rank in range(size)]


def own_range(bucket: Bucket, counts: Sequence[int], rank: int) -> Bucket:
    """Give where the piece of `rank` begins and ends."""
    start = bucket[0] + sum(counts[:rank])
    return start, start + counts[rank]
