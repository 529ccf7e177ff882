"""A shuffled order that is arithmetic: the item at position ``i`` of an epoch is a formula, not a list.

A stored shuffle has to be built (memory and time for every epoch) and saved to resume. A Feistel network is a
bijection whatever its round function is, so a few rounds over the bits of the index, keyed by (seed, epoch),
give a pseudorandom permutation of ``[0, 2^b)`` that can be asked for any single position. *Cycle walking*
narrows it to ``[0, n)``: an image outside is permuted again until it falls inside. With ``b`` even and ``2^b
< 4n``, fewer than four passes are expected.

Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt.errors import InvalidValueError

U64Array: TypeAlias = npt.NDArray[np.uint64]

ROUNDS = 12
"""Four are enough for large domains. Of 5 items, though, the halves of the index have two bits each, and four
rounds put an item up to 16 % too often in one place, eight rounds 1 %, twelve nothing measurable."""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def counter_hash(seed: int, *counters: U64Array | int) -> U64Array:
    """Hash a seed and counters to 64 bits each, elementwise.

    Args:
        seed: Any integer; taken modulo 2^64.
        counters: Integers or uint64 arrays that broadcast against each other.

    Returns:
        uint64 array of the broadcast shape, at least one-dimensional.

    >>> counter_hash(1, 2).tolist() == counter_hash(1, 2).tolist() != counter_hash(1, 3).tolist()
    True

    """
    state = _mix(_as_u64(seed))
    for counter in counters:
        state = _mix(state + _mix(_as_u64(counter)))
    return state


def permute(index: U64Array, n: int, *, seed: int, epoch: U64Array | int) -> npt.NDArray[np.int64]:
    """Tell which of ``n`` items stands at each position of a shuffled epoch.

    Args:
        index: Positions, uint64 (k,), every one below ``n``.
        n: Number of items, 1 to 2^62.
        seed: Any integer.
        epoch: One number, or one for each position, uint64 (k,).

    Returns:
        int64 (k,). For fixed ``n``, ``seed`` and ``epoch`` a bijection of ``[0, n)``. Time and memory do not
        depend on ``n``.

    Raises:
        InvalidValueError: ``n`` or a position out of range.

    >>> sorted(permute(np.arange(5, dtype=np.uint64), 5, seed=1, epoch=0).tolist())
    [0, 1, 2, 3, 4]

    """
    if not 1 <= n <= 1 << 62:
        raise InvalidValueError(f"the number of items must be from 1 to 2^62, not {n}")
    if index.size and int(index.max()) >= n:
        raise InvalidValueError(f"position {int(index.max())} is beyond the {n} items there are")
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = _round_keys(seed, epoch, index.shape)
    value = _feistel(index, keys, half_bits)
    outside = value >= np.uint64(n)
    while outside.any():
        value[outside] = _feistel(value[outside], keys[:, outside], half_bits)
        outside = value >= np.uint64(n)
    return value.astype(np.int64)


def _round_keys(seed: int, epoch: U64Array | int, shape: tuple[int, ...]) -> U64Array:
    """One key a round for every position, uint64 (ROUNDS, k)."""
    rounds = np.arange(ROUNDS, dtype=np.uint64)[:, None]
    return np.broadcast_to(counter_hash(seed, epoch, rounds), (ROUNDS, *shape))


def _feistel(value: U64Array, keys: U64Array, half_bits: int) -> U64Array:
    bits, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = value >> bits, value & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    joined: U64Array = (left << bits) | right
    return joined


def _mix(x: U64Array) -> U64Array:
    """Scramble 64 bits (the finalizer of splitmix64); uint64 arrays wrap around on purpose."""
    x = x + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
    mixed: U64Array = x ^ (x >> np.uint64(31))
    return mixed


def _as_u64(value: U64Array | int) -> U64Array:
    # Always an array: NumPy wraps silently in arrays but warns about overflow in scalars.
    if isinstance(value, np.ndarray):
        return np.atleast_1d(value.astype(np.uint64, copy=False))
    return np.array([int(value) & _MASK], dtype=np.uint64)
