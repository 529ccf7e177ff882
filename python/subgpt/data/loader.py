"""Batches, each a pure function of the step: to resume, a run needs the number of the step and nothing else.

A row of ids is cut into windows of ``block_size`` inputs, and every position of every window is a training
example: the model sees ``ids[s : s + T]`` and is asked for ``ids[s + 1 : s + T + 1]``. Every epoch shifts the
grid of windows by a random phase in ``[0, T)``, so that a token is not met in the same context every time,
and visits the windows in an order that is arithmetic (see `permutation`). All epochs have the same number of
windows, whatever their phase, which is what makes the position of a step a division; for that, up to ``2T -
1`` tokens at the two ends of the corpus sit out an epoch, others each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from subgpt.data.permutation import U64Array, counter_hash, permute
from subgpt.data.tokens import ShardedTokens, Tokens, read_windows
from subgpt.errors import ConfigError, DataError, DtypeError, InvalidValueError, ShapeError

U32Array: TypeAlias = npt.NDArray[np.uint32]
I64Array: TypeAlias = npt.NDArray[np.int64]
Batch: TypeAlias = "tuple[U32Array, I64Array]"

T = TypeVar("T")

IGNORED = -100
"""The target that no loss is computed for; the number that the field uses."""

_PHASE = 0x7068617365
"""Keeps the numbers drawn for the phase apart from those drawn for the order."""

_AHEAD = 1024
"""Rows of batches whose places are computed together."""


class Windows(Protocol):
    """What gives batches of windows by their number."""

    def batch(self, step: int) -> Batch:
        """Build the batch of a step, x uint32 and y int64, (B, T)."""


class WindowLoader:
    """Training batches from one row of token ids.

    Args:
        tokens: uint32 (n,), at least ``block_size + 1`` of them; or `ShardedTokens`. Not copied.
        block_size: Inputs in a window, T.
        batch_size: Windows in a batch, B.
        seed: Decides phases and order.

    Raises:
        DataError: The corpus is shorter than a window.
        ConfigError: A size below 1.
        ShapeError, DtypeError: ``tokens`` is not a uint32 row.

    >>> loader = WindowLoader(np.arange(1000, dtype=np.uint32), block_size=8, batch_size=4, seed=1)
    >>> x, y = loader.batch(0)
    >>> x.shape, x.dtype.name, y.shape, y.dtype.name, bool((x + 1 == y).all())
    ((4, 8), 'uint32', (4, 8), 'int64', True)

    """

    def __init__(self, tokens: Tokens, *, block_size: int, batch_size: int, seed: int) -> None:
        check_tokens(tokens)
        check_sizes(block_size, batch_size)
        n = len(tokens)
        if n < block_size + 1:
            raise DataError(
                f"the corpus has {n} tokens, but a window of block_size={block_size} needs {block_size + 1}; "
                f"give more text, or set block_size to at most {max(n - 1, 1)}"
            )
        self.tokens = tokens
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = seed
        # One window fits at every phase below n - T; from n = 2T on, all T phases leave room for (n - T) // T
        # windows.
        self._phases = min(block_size, n - block_size)
        self._windows = max(1, (n - block_size) // block_size)
        self._order = Ahead(batch_size, self._windows, self._starts)

    @property
    def windows_per_epoch(self) -> int:
        """Windows in an epoch, the same for every epoch."""
        return self._windows

    def starts(self, step: int) -> I64Array:
        """Where the windows of a batch begin, int64 (B,)."""
        return self._order.batch(step)

    def _starts(self, epochs: U64Array, index: U64Array) -> I64Array:
        window = permute(index, self._windows, seed=self.seed, epoch=epochs)
        starts: I64Array = window * self.block_size + self._phase(epochs)
        return starts

    def batch(self, step: int) -> Batch:
        """Build the batch of a step.

        Args:
            step: Number of the batch from 0; batches run on across the borders of epochs.

        Returns:
            x uint32 (B, T), y int64 (B, T), where y is x one token later. Both are fresh arrays.

        Raises:
            InvalidValueError: A negative step.

        """
        return self._windows_at(self.starts(step))

    def rows(self, epochs: U64Array, index: U64Array) -> Batch:
        """Build a batch of the windows at any positions: their epochs, and their indices in these.

        Args:
            epochs: uint64 (b,).
            index: uint64 (b,), each below `windows_per_epoch`.

        """
        return self._windows_at(self._starts(epochs, index))

    def _windows_at(self, starts: I64Array) -> Batch:
        rows = read_windows(self.tokens, starts, self.block_size + 1)
        return np.ascontiguousarray(rows[:, :-1]), rows[:, 1:].astype(np.int64)

    def _phase(self, epochs: U64Array) -> I64Array:
        phase = counter_hash(self.seed, _PHASE, epochs) % np.uint64(self._phases)
        return np.asarray(phase, dtype=np.int64)


def positions(step: int, batch_size: int, per_epoch: int) -> tuple[U64Array, U64Array]:
    """Tell the epoch of each row of a batch, and its position in the epoch; both uint64 (batch_size,).

    >>> [a.tolist() for a in positions(1, 4, 6)]
    [[0, 0, 1, 1], [4, 5, 0, 1]]
    """
    if step < 0:
        raise InvalidValueError(f"step must be 0 or more, not {step}")
    # Python's integers first: step * batch_size must not overflow in a run without end.
    epoch, first = divmod(int(step) * batch_size, per_epoch)
    index = first + np.arange(batch_size, dtype=np.uint64)
    n = np.uint64(per_epoch)
    return np.uint64(epoch & ((1 << 64) - 1)) + index // n, index % n


class Ahead:
    """Which items are in a batch, of a run whose order is arithmetic; asked for many batches at once.

    NumPy takes as long for the arithmetic of a few numbers as for that of a thousand, which was a tenth of a step of
    the smallest models.

    Args:
        batch_size: Items of a batch.
        per_epoch: Items of an epoch.
        at: Gives the items at positions of epochs, both uint64 (k,).

    >>> Ahead(2, 3, lambda epochs, index: (10 * epochs + index).astype(np.int64)).batch(1).tolist()
    [2, 10]

    """

    def __init__(self, batch_size: int, per_epoch: int, at: Callable[[U64Array, U64Array], I64Array]) -> None:
        self._batch_size, self._per_epoch, self._at = batch_size, per_epoch, at
        self._batches = max(1, _AHEAD // batch_size)
        self._made: tuple[int, I64Array] = -1, np.empty(0, np.int64)

    def batch(self, step: int) -> I64Array:
        """Give the items of a batch, int64 (batch_size,), a fresh array; InvalidValueError for a negative step."""
        if step < 0:
            raise InvalidValueError(f"step must be 0 or more, not {step}")
        run, number = divmod(int(step), self._batches)
        made, items = self._made
        if made != run:
            items = self._at(*positions(run, self._batches * self._batch_size, self._per_epoch))
            self._made = run, items
        first = number * self._batch_size
        mine: I64Array = items[first : first + self._batch_size].copy()
        return mine


class Batches(Sequence[T]):
    """Batches that are made when they are asked for, each from its number.

    >>> Batches(range(4), lambda number: number * number)[1::2][1]
    9
    """

    def __init__(self, numbers: Sequence[int], make: Callable[[int], T]) -> None:
        self._numbers, self._make = numbers, make

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Batches[T]: ...
    def __getitem__(self, index: int | slice) -> T | Batches[T]:
        if isinstance(index, slice):
            return Batches(self._numbers[index], self._make)
        return self._make(self._numbers[index])


def evaluation_batches(tokens: Tokens, *, block_size: int, batch_size: int) -> Batches[Batch]:
    """Give windows that have every token but the first as a target exactly once, in order.

    The loss over all of them, weighted by their number of targets, is exact: no sampling noise, and the same
    whatever the batch size. The last window is shorter and comes as a batch of its own, so that nothing is
    padded.

    Args:
        tokens: uint32 (n,), at least 2; or `ShardedTokens`.
        block_size: Most inputs in a window, T; windows follow each other at this stride.
        batch_size: Most windows in a batch.

    Returns:
        x uint32 and y int64, (b, T) with b up to ``batch_size``, and at last (1, rest); each is made when it is asked
        for.

    Raises:
        DataError: Fewer than two tokens.

    >>> batches = list(evaluation_batches(np.arange(8, dtype=np.uint32), block_size=3, batch_size=2))
    >>> [y.tolist() for x, y in batches]
    [[[1, 2, 3], [4, 5, 6]], [[7]]]

    """
    check_tokens(tokens)
    check_sizes(block_size, batch_size)
    if len(tokens) < 2:
        raise DataError(
            f"{len(tokens)} token(s) cannot be evaluated: at least 2 are needed to predict anything"
        )
    targets = len(tokens) - 1
    whole = targets // block_size * block_size
    stride = batch_size * block_size

    def make(begin: int) -> Batch:
        end = min(begin + stride, whole) if begin < whole else targets
        shape = (-1, block_size) if begin < whole else (1, -1)
        x = np.array(tokens[begin:end].reshape(shape))
        return x, tokens[begin + 1 : end + 1].astype(np.int64).reshape(shape)

    return Batches([*range(0, whole, stride), *([whole] if whole < targets else [])], make)


def check_tokens(tokens: Tokens) -> None:
    """Refuse what is not a row of ids.

    Raises:
        DtypeError: Not a NumPy array of uint32.
        ShapeError: Not one-dimensional.

    """
    if isinstance(tokens, ShardedTokens):
        return
    if not isinstance(tokens, np.ndarray) or tokens.dtype != np.uint32:
        given = tokens.dtype if isinstance(tokens, np.ndarray) else type(tokens).__name__
        raise DtypeError(f"tokens must be a NumPy array of uint32, not {given}")
    if tokens.ndim != 1:
        raise ShapeError(f"tokens must be one row, shape (n,), not {tokens.shape}")


def check_sizes(block_size: int, batch_size: int) -> None:
    """Refuse sizes that no batch can have.

    Raises:
        ConfigError: Either is below 1.

    """
    for name, value in (("block_size", block_size), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
