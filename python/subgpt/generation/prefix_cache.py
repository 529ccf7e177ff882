"""`PrefixCache`: what was read for one text is not read again for another that begins alike."""

from collections.abc import Iterable, Iterator
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

    Their keys and values are counted; ids, and logits as many as the vocabulary for each, come on top.

    A prefix is copied: positions lie one after the other for the kernels that read them, and a copy costs a hundredth
    of computing them anew. Every beginning of a kept text has a key, so that it takes a look for each id to find the
    longest, however many texts are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.bytes = 0
        self._kept: dict[int, Read] = {}  # by the key of all its ids, that of use last at the end
        self._beginning: dict[int, Read] = {}  # of those with a beginning that of use last

    def take(self, ids: Ids, others: Iterable[Read] = ()) -> "_core.Session | None":
        """Make a session that has read the longest beginning of `ids` (n,) that is known, but never all of them.

        others: sessions that still go on, to look into as well. None if nothing is known.
        """
        best, length = None, 0
        known = self._longest(ids[:-1])
        for read in (*others, *([] if known is None else [known])):
            common = common_length(read.ids, ids[:-1])
            if common > length:
                best, length = read, common
        if best is None:
            return None
        if best is known:
            self._mark(best)
        return best.session.prefix(length)

    def put(self, read: Read) -> None:
        """Keep a session that nobody goes on with, and drop those that it makes needless or that have no room."""
        for key in _keys(read.ids):
            needless = self._kept.pop(key, None)  # one that it goes on from
            self.bytes -= 0 if needless is None else needless.session.cache_bytes
        self._mark(read)
        self.bytes += read.session.cache_bytes
        while self.bytes > self.capacity:
            self._drop(next(iter(self._kept)))

    def __len__(self) -> int:
        return len(self._kept)

    def _longest(self, ids: Ids) -> Read | None:
        """Find a text that has the longest known beginning of `ids`; it may share none, if keys are alike by chance."""
        found = None
        for key in _keys(ids):
            read = self._beginning.get(key)
            if read is None:
                break
            found = read
        return found

    def _mark(self, read: Read) -> None:
        """Say that a text was of use last, also for all of its beginnings."""
        key = 0
        for key in _keys(read.ids):
            self._beginning[key] = read
        self._kept.pop(key, None)
        self._kept[key] = read

    def _drop(self, key: int) -> None:
        """Forget a text, and the beginnings that no other has: of those the other was of use later."""
        read = self._kept.pop(key)
        self.bytes -= read.session.cache_bytes
        for beginning in _keys(read.ids):
            if self._beginning.get(beginning) is read:
                del self._beginning[beginning]


def _keys(ids: Ids) -> Iterator[int]:
    """Give a key for each beginning of `ids` (n,), the shortest first."""
    key = 0
    for id in ids.tolist():
        key = hash((key, id))
        yield key


def common_length(first: Ids, second: Ids) -> int:
    """Count the ids that two sequences begin with alike.

    >>> common_length(np.array([1, 2, 3]), np.array([1, 2, 4, 5]))
    2
    """
    length = min(len(first), len(second))
    differ = first[:length] != second[:length]
    return int(differ.argmax()) if differ.any() else length
