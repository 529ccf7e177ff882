"""Batches of examples of different lengths, padded on the right, with targets only on their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from subgpt.data.loader import IGNORED, Ahead, Batch, Batches, I64Array, U32Array, check_sizes
from subgpt.data.masking import TokenExample
from subgpt.data.permutation import U64Array, permute
from subgpt.errors import DataError, InvalidValueError

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer


class ExampleLoader:
    """Training batches of one example a row, in an order that is arithmetic, as a pure function of the step.

    An example that is longer than a row loses the beginning of its prompt, never its answer. Only if the
    answer alone is longer is its end cut. Both are counted.

    Args:
        examples: At least one.
        block_size: Most inputs in a row, T.
        batch_size: Rows in a batch, B.
        seed: Decides the order.
        pad: The id that fills rows up; never a target.

    Attributes:
        cut_prompts: Examples that lost the beginning of their prompt.
        cut_answers: Examples that lost the end of their answer.

    Raises:
        DataError: No examples.
        ConfigError: A size below 1.

    """

    def __init__(
        self, examples: Sequence[TokenExample], *, block_size: int, batch_size: int, seed: int, pad: int = 0
    ) -> None:
        self._fitted = fit_examples(examples, block_size, batch_size, pad)
        self._rows = self._fitted.rows
        self.cut_prompts, self.cut_answers = self._fitted.cut_prompts, self._fitted.cut_answers
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = seed
        self.pad = pad
        self._order = Ahead(batch_size, len(self._rows), self._at)

    def __len__(self) -> int:
        """Return the number of examples in an epoch."""
        return len(self._rows)

    def describe(self) -> str:
        """One line for the terminal, with what was cut."""
        return self._fitted.describe(self.block_size)

    def indices(self, step: int) -> I64Array:
        """Which examples are in a batch, int64 (B,)."""
        return self._order.batch(step)

    def _at(self, epochs: U64Array, index: U64Array) -> I64Array:
        return permute(index, len(self._rows), seed=self.seed, epoch=epochs)

    def batch(self, step: int) -> Batch:
        """Build the batch of a step; it is as wide as its longest example.

        Returns:
            x uint32 (B, W) padded with ``pad``; y int64 (B, W), -100 wherever nothing is trained.

        Raises:
            InvalidValueError: A negative step.

        """
        return pad_rows([self._rows[i] for i in self.indices(step)], self.pad)


def evaluation_example_batches(
    examples: Sequence[TokenExample], *, block_size: int, batch_size: int, pad: int = 0
) -> Batches[Batch]:
    """Give every example once, in order, at most ``batch_size`` at a time, cut and padded as in training.

    Returns:
        x uint32 (b, W), y int64 (b, W) with -100 wherever nothing is trained; each is made when it is asked for.

    Raises:
        DataError: No examples.

    """
    rows = fit_examples(examples, block_size, batch_size, pad).rows
    return Batches(
        range(0, len(rows), batch_size), lambda first: pad_rows(rows[first : first + batch_size], pad)
    )


def fit_example(example: TokenExample, block_size: int) -> TokenExample:
    """Cut an example to ``block_size + 1`` ids: the prompt from the left, then the answer from the right.

    The prompt is what stands before the first trained token; its last token always stays, to predict from.

    >>> ids, trained = np.arange(6, dtype=np.uint32), np.array([False] * 4 + [True] * 2)
    >>> fit_example(TokenExample(ids, trained, None), 3).ids.tolist()
    [2, 3, 4, 5]
    """
    excess = len(example) - (block_size + 1)
    if excess <= 0:
        return example
    answer = int(np.argmax(example.trained))
    left = min(excess, max(answer - 1, 0))
    kept = slice(left, left + block_size + 1)
    return TokenExample(example.ids[kept], example.trained[kept], example.origin)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Examples cut to a block, as inputs and targets, and how many were cut.

    Attributes:
        rows: Inputs uint32 (n,) and targets int64 (n,), -100 wherever nothing is trained.
        cut_prompts: Examples that lost the beginning of their prompt.
        cut_answers: Examples that lost the end of their answer.

    """

    rows: list[tuple[U32Array, I64Array]]
    cut_prompts: int
    cut_answers: int

    def describe(self, block_size: int) -> str:
        """Say how many examples there are, and what was cut."""
        line = f"{len(self.rows)} examples"
        if self.cut_prompts:
            line += f"; {self.cut_prompts} prompts lost their beginning to fit block_size={block_size}"
        if self.cut_answers:
            line += f"; {self.cut_answers} answers lost their end"
        return line


def fit_examples(examples: Sequence[TokenExample], block_size: int, batch_size: int, pad: int) -> Fitted:
    """Cut examples to a block, see `fit_example`.

    Raises:
        DataError: No examples.
        ConfigError: A size below 1.
        InvalidValueError: ``pad`` is no token id.

    """
    check_sizes(block_size, batch_size)
    if not examples:
        raise DataError("there are no examples; give at least one")
    if not 0 <= pad < 1 << 32:
        raise InvalidValueError(f"pad must be a token id, not {pad!r}")
    fitted = [fit_example(example, block_size) for example in examples]
    pairs = list(zip(examples, fitted, strict=True))
    return Fitted(
        rows=[_row(example) for example in fitted],
        cut_prompts=sum(_lost_prompt(whole, kept) for whole, kept in pairs),
        cut_answers=sum(int(whole.trained.sum()) > int(kept.trained.sum()) for whole, kept in pairs),
    )


def _lost_prompt(whole: TokenExample, fitted: TokenExample) -> bool:
    return int(np.argmax(whole.trained)) > int(np.argmax(fitted.trained))


def _row(example: TokenExample) -> tuple[U32Array, I64Array]:
    targets = np.where(example.trained[1:], example.ids[1:].astype(np.int64), IGNORED)
    return example.ids[:-1], targets


def pad_rows(rows: Sequence[tuple[U32Array, I64Array]], pad: int) -> Batch:
    """Make a batch of rows, as wide as the longest; what fills the others up is no target."""
    width = max(len(x) for x, _ in rows)
    xs = np.full((len(rows), width), pad, dtype=np.uint32)
    ys = np.full((len(rows), width), IGNORED, dtype=np.int64)
    for i, (x, y) in enumerate(rows):
        xs[i, : len(x)] = x
        ys[i, : len(y)] = y
    return xs, ys


def padding_id(tokenizer: Tokenizer) -> int:
    """Give the id that fills rows up: the end of text, where there is one; no loss is taken on it."""
    return 0 if tokenizer.eot_id is None else tokenizer.eot_id
