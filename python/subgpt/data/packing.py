"""Rows of several examples each, so that little of a batch is padding; no example sees or predicts another.

Windows of running text have no padding; there packing keeps documents from seeing each other (`part_documents`).

An example takes as many places in a row as it has inputs: its ids but the last, which is only ever a target. Examples
are put, the longest first, where they leave the least room (best-fit decreasing), which is within a few percent of the
fewest rows that there can be. Which examples share a row depends on the seed, and stays; the order of rows is another
in every epoch, and arithmetic (see `permutation`), so that a step is all that resuming needs.

In a batch `segments` says which tokens belong together, for attention, and `positions` counts from 0 in each example.
The last place of an example has its own last id as target, never the first of the next one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt.data.examples import fit_examples
from subgpt.data.loader import IGNORED, Ahead, Batch, I64Array, U32Array, Windows
from subgpt.data.masking import TokenExample
from subgpt.data.permutation import U64Array, permute

I32Array: TypeAlias = npt.NDArray[np.int32]

NO_EXAMPLE = -1
"""The segment of padding."""


class PackedBatch(NamedTuple):
    """A batch of packed rows, each array (B, T).

    Attributes:
        x: Ids, uint32; padded on the right.
        y: Targets, int64; -100 wherever nothing is trained.
        segments: int32; which example of its row a place belongs to, from 0; -1 for padding.

    """

    x: U32Array
    y: I64Array
    segments: I32Array


def documents(batch: Batch | PackedBatch) -> I32Array | None:
    """Give which tokens of a batch see each other, as `GPT.backward` takes it; None: all of a row."""
    return batch.segments if isinstance(batch, PackedBatch) else None


class PackedLoader:
    """Training batches of rows that hold several examples each, as a pure function of the step.

    An example that is longer than a row is cut as `ExampleLoader` cuts it, and counted; no other is.

    Args:
        examples: At least one.
        block_size: Places in a row, T.
        batch_size: Rows in a batch, B.
        seed: Decides which examples of equal length share a row, and the order of rows.
        pad: The id that fills rows up; never a target.

    Attributes:
        rows: For every row the examples in it, by their index, in order.
        cut_prompts: Examples that lost the beginning of their prompt.
        cut_answers: Examples that lost the end of their answer.

    Raises:
        DataError: No examples.
        ConfigError: A size below 1.

    >>> made = [TokenExample(np.arange(n, dtype=np.uint32), np.ones(n, dtype=bool), None) for n in (5, 3, 3)]
    >>> loader = PackedLoader(made, block_size=4, batch_size=2, seed=1)
    >>> loader.describe()
    '3 examples; packed into 2 rows of 4 tokens, 0.0 % of them padding'

    """

    def __init__(
        self, examples: Sequence[TokenExample], *, block_size: int, batch_size: int, seed: int, pad: int = 0
    ) -> None:
        self._fitted = fit_examples(examples, block_size, batch_size, pad)
        self.cut_prompts, self.cut_answers = self._fitted.cut_prompts, self._fitted.cut_answers
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = seed
        self.pad = pad
        lengths = [len(x) for x, _ in self._fitted.rows]
        self.rows = pack(lengths, block_size, seed)
        self._padding = len(self.rows) * block_size - sum(lengths)
        self._order = Ahead(batch_size, len(self.rows), self._at)

    def __len__(self) -> int:
        """Return the number of rows in an epoch."""
        return len(self.rows)

    @property
    def padding_share(self) -> float:
        """The share of places that hold no example, in [0, 1)."""
        return self._padding / (len(self.rows) * self.block_size)

    def describe(self) -> str:
        """One line for the terminal, with what was cut."""
        return (
            f"{self._fitted.describe(self.block_size)}; packed into {len(self.rows)} rows of "
            f"{self.block_size} tokens, {100 * self.padding_share:.1f} % of them padding"
        )

    def indices(self, step: int) -> I64Array:
        """Which rows are in a batch, int64 (B,).

        Raises:
            InvalidValueError: A negative step.

        """
        return self._order.batch(step)

    def _at(self, epochs: U64Array, index: U64Array) -> I64Array:
        return permute(index, len(self.rows), seed=self.seed, epoch=epochs)

    def batch(self, step: int) -> PackedBatch:
        """Build the batch of a step; its arrays are fresh.

        Raises:
            InvalidValueError: A negative step.

        """
        shape = (self.batch_size, self.block_size)
        made = PackedBatch(
            np.full(shape, self.pad, dtype=np.uint32),
            np.full(shape, IGNORED, dtype=np.int64),
            np.full(shape, NO_EXAMPLE, dtype=np.int32),
        )
        for row, index in enumerate(self.indices(step)):
            start = 0
            for segment, example in enumerate(self.rows[index]):
                x, y = self._fitted.rows[example]
                place = slice(start, start + len(x))
                made.x[row, place], made.y[row, place] = x, y
                made.segments[row, place] = segment
                start += len(x)
        return made


def part_documents(batch: Batch, eot_id: int) -> PackedBatch:
    """Part the documents in windows of running text, which then see nothing of each other.

    An end-of-text id belongs to the document behind it: it is the last target of the one before, and what the next
    one begins from.

    >>> part_documents((np.array([[5, 9, 6, 7]], np.uint32), np.array([[9, 6, 7, 9]])), 9).segments.tolist()
    [[0, 1, 1, 1]]

    """
    x, y = batch
    return PackedBatch(x, y, np.cumsum(x == eot_id, axis=1, dtype=np.int32))


class DocumentLoader:
    """Training batches of windows of running text, whose documents see nothing of each other.

    Args:
        windows: Gives the windows.
        eot_id: What ends a document.

    """

    def __init__(self, windows: Windows, eot_id: int) -> None:
        self.windows, self.eot_id = windows, eot_id

    def batch(self, step: int) -> PackedBatch:
        """Build the batch of a step."""
        return part_documents(self.windows.batch(step), self.eot_id)


def pack(lengths: Sequence[int], capacity: int, seed: int) -> list[list[int]]:
    """Put items into as few rows as best-fit decreasing finds.

    Args:
        lengths: Of each item, at most ``capacity``.
        capacity: Of a row.
        seed: Decides the order of items of equal length.

    Returns:
        For every row its items, by index. Takes n log n steps, and a place for every length there is.

    >>> sorted(map(sorted, pack([3, 3, 2, 2, 2], 6, seed=0)))
    [[0, 1], [2, 3, 4]]

    """
    mixed = permute(np.arange(len(lengths), dtype=np.uint64), len(lengths), seed=seed, epoch=0)
    order = sorted(mixed.tolist(), key=lambda item: -lengths[item])
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # room that is left -> rows with so much
    rooms: list[int] = []  # the keys, in order
    for item in order:
        length = lengths[item]
        place = bisect_left(rooms, length)
        if place == len(rooms):
            row, room = len(rows), capacity
            rows.append([])
        else:
            room = rooms[place]
            row = open_rows[room].pop()
            if not open_rows[room]:
                del open_rows[room], rooms[place]
        rows[row].append(item)
        left = room - length
        if left not in open_rows:
            open_rows[left] = []
            insort(rooms, left)
        open_rows[left].append(row)
    return rows
