"""Windows of several sets of ids, each by its weight, and still a pure function of the step.

Rows come in cycles of `CYCLE`. In each, every set has its share of the places, rounded to whole ones, and which place
is whose is a permutation that is arithmetic (see `permutation`). The n-th place of a set in all cycles is the n-th
window of that set's own loader: so each set is gone through in its own epochs, every window once before one comes
again, however small its share. Where a row stands takes the work of one cycle at most, not of those before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from subgpt.data.loader import Batch, I64Array, WindowLoader
from subgpt.data.permutation import counter_hash, permute
from subgpt.errors import ConfigError, InvalidValueError

CYCLE = 1 << 14
"""Shares are exact to one in so many."""

_MIXTURE = 0x6D6978747572
"""Keeps the order of the mixture apart from those of its sets."""


def shares(weights: Sequence[float]) -> list[int]:
    """Give each weight its places in a cycle: largest remainders, all `CYCLE` of them.

    Raises:
        ConfigError: A weight that is not positive and finite, or whose share is too small to have a place.

    >>> shares([3, 1]), shares([1, 1, 1])
    ([12288, 4096], [5462, 5461, 5461])

    """
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < math.inf:
            raise ConfigError(f"the weight of a data set must be a number above 0, not {weight!r}")
    total = math.fsum(weights)
    exact = [weight / total * CYCLE for weight in weights]
    places = [math.floor(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda i: (places[i] - exact[i], i))
    for i in order[: CYCLE - sum(places)]:
        places[i] += 1
    if 0 in places:
        least = weights[places.index(0)]
        raise ConfigError(
            f"the weight {least!r} is less than 1/{CYCLE} of all; give more, or leave that data set out"
        )
    return places


class MixtureLoader:
    """Training batches from several loaders by weight.

    Args:
        loaders: One for each set, all of the same sizes.
        weights: One for each, in any unit.
        seed: Decides the order.

    Raises:
        ConfigError: A weight cannot be, or there is not one for each.

    >>> rows = [np.full(100, n, dtype=np.uint32) for n in (1, 2)]
    >>> parts = [WindowLoader(row, block_size=4, batch_size=8, seed=0) for row in rows]
    >>> x, y = MixtureLoader(parts, [3, 1], seed=0).batch(0)
    >>> x.shape, set(x[:, 0].tolist()) <= {1, 2}
    ((8, 4), True)

    """

    def __init__(self, loaders: Sequence[WindowLoader], weights: Sequence[float], *, seed: int) -> None:
        if len(loaders) != len(weights) or not loaders:
            raise ConfigError(f"{len(loaders)} data sets have {len(weights)} weights; give one for each")
        self.loaders = tuple(loaders)
        self.places = shares(weights)
        self.batch_size = loaders[0].batch_size
        self.seed = seed
        self._cycle = -1
        self._owners = self._ranks = np.empty(0, dtype=np.int64)

    def batch(self, step: int) -> Batch:
        """Build the batch of a step; see `WindowLoader.batch`."""
        owners, windows = self.positions(step)
        first = self.loaders[0]
        x = np.empty((self.batch_size, first.block_size), dtype=np.uint32)
        y = np.empty(x.shape, dtype=np.int64)
        for number, loader in enumerate(self.loaders):
            own = np.flatnonzero(owners == number)
            if len(own):
                epochs, index = np.divmod(windows[own].astype(np.uint64), np.uint64(loader.windows_per_epoch))
                x[own], y[own] = loader.rows(epochs, index)
        return x, y

    def positions(self, step: int) -> tuple[I64Array, I64Array]:
        """For each row of a batch, the set that it comes from and how many of that set were before; int64 (B,).

        Raises:
            InvalidValueError: A negative step.

        """
        if step < 0:
            raise InvalidValueError(f"step must be 0 or more, not {step}")
        owners = np.empty(self.batch_size, dtype=np.int64)
        windows = np.empty(self.batch_size, dtype=np.int64)
        done = 0
        cycle, at = divmod(int(step) * self.batch_size, CYCLE)
        places = np.array(self.places, dtype=np.int64)
        while done < self.batch_size:
            self._deal(cycle)
            take = min(CYCLE - at, self.batch_size - done)
            rows = slice(at, at + take)
            owners[done : done + take] = self._owners[rows]
            windows[done : done + take] = self._ranks[rows] + cycle * places[self._owners[rows]]
            done, cycle, at = done + take, cycle + 1, 0
        return owners, windows

    def _deal(self, cycle: int) -> None:
        """Work out whose each place of a cycle is, and the how many-th of its owner there."""
        if cycle == self._cycle:
            return
        key = int(counter_hash(self.seed, _MIXTURE)[0])
        mixed = permute(np.arange(CYCLE, dtype=np.uint64), CYCLE, seed=key, epoch=cycle)
        self._owners = np.searchsorted(np.cumsum(self.places), mixed, side="right").astype(np.int64)
        self._ranks = np.empty(CYCLE, dtype=np.int64)
        for number, count in enumerate(self.places):
            self._ranks[self._owners == number] = np.arange(count)
        self._cycle = cycle
