"""`PrefixCache`: what was read for one text is not read again for another that begins alike."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from subgpt import _core

Ids: TypeAlias = npt.NDArray[np.uint32]


class Read(NamedTuple):
    """A session, and the ids (n,) that it has read."""

    session: "_core.Session"
    ids: Ids


class PrefixCache:
    """Sessions of finished texts, those that were of use last, as many as fit into `capacity` bytes.

    A prefix is copied: positions lie one after the other for the kernels that read them, and a copy costs a hundredth
    of computing them anew.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.bytes = 0
        self._kept: list[Read] = []  # that of use last at the end

    def take(self, ids: Ids, others: Iterable[Read] = ()) -> "_core.Session | None":
        """Make a session that has read the longest beginning of `ids` (n,) that is known, but never all of them.

        others: sessions that still go on, to look into as well. None if nothing is known.
        """
        best, length = None, 0
        for read in (*others, *self._kept):
            common = common_length(read.ids[: len(ids) - 1], ids)
            if common > length:
                best, length = read, common
        if best is None:
            return None
        at = next((at for at, kept in enumerate(self._kept) if kept.session is best.session), None)
        if at is not None:
            self._kept.append(self._kept.pop(at))
        return best.session.prefix(length)

    def put(self, read: Read) -> None:
        """Keep a session that nobody goes on with, and drop those that it makes needless or that have no room."""
        kept = [known for known in self._kept if common_length(known.ids, read.ids) < len(known.ids)]
        self._kept = [*kept, read]
        sizes = [one.session.cache_bytes for one in self._kept]
        while self._kept and sum(sizes) > self.capacity:
            del self._kept[0], sizes[0]
        self.bytes = sum(sizes)

    def __len__(self) -> int:
        return len(self._kept)


def common_length(first: Ids, second: Ids) -> int:
    """Count the ids that two sequences begin with alike.

    >>> common_length(np.array([1, 2, 3]), np.array([1, 2, 4, 5]))
    2
    """
    length = min(len(first), len(second))
    differ = first[:length] != second[:length]
    return int(differ.argmax()) if differ.any() else length
