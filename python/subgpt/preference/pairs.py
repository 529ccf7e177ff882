"""Preferences from files to batches: a prompt with the answer that was chosen and the one that was rejected.

==========================================  ================================================================
``prompt``, ``chosen``, ``rejected``        texts, used as they are; or lists of messages that go on after the
                                            messages of ``prompt``
``chosen``, ``rejected``                    whole conversations, which differ in their last answer
==========================================  ================================================================
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.data.examples import fit_examples, pad_rows
from subgpt.data.instruct import Example, named, parse_row, rows_of
from subgpt.data.loader import IGNORED, Ahead, I64Array, U32Array
from subgpt.data.masking import TokenExample
from subgpt.data.permutation import U64Array, permute
from subgpt.data.rows import Row, json_type, list_keys
from subgpt.errors import DataError
from subgpt.model.gpt import GPT

if TYPE_CHECKING:
    from subgpt.data.decoding import Errors
    from subgpt.data.instruct import ExampleSource

ACCEPTED = "prompt + chosen + rejected, or chosen + rejected as whole conversations"


class Pair(NamedTuple):
    """Two answers to one prompt."""

    chosen: Example
    rejected: Example


class PairBatch(NamedTuple):
    """Pairs as the model reads them, the chosen ones first.

    ids: uint32 (2 P, T). targets: int64 (2 P, T), -100 but on the answers. reference: float64 (2 P,), the
    log-probability of each answer by the model before it was trained.
    """

    ids: U32Array
    targets: I64Array
    reference: npt.NDArray[np.float64]


def read_pairs(
    source: "ExampleSource", *, errors: "Errors" = "replace", free_turns: bool = False
) -> list[Pair]:
    """Read all pairs of ``source``; files and rows as for fine-tuning.

    Raises:
        DataError: A row in no accepted shape, two answers that are the same, or no row at all; with file and line.

    """
    pairs = [_parse(row, errors, free_turns) for row in rows_of(source, errors)]
    if not pairs:
        raise DataError(f"{named(source)}: no preferences in it; each row must have {ACCEPTED}")
    return pairs


def _parse(row: Row, errors: "Errors", free_turns: bool) -> Pair:
    fields = row.fields
    if not {"chosen", "rejected"} <= fields.keys():
        raise DataError(f"{row.where}: the keys {list_keys(fields)} are no preference; expected {ACCEPTED}")
    chosen, rejected = (_answer(row, key, errors, free_turns) for key in ("chosen", "rejected"))
    if chosen.messages == rejected.messages:
        raise DataError(
            f"{row.where}: chosen and rejected are the same, so there is nothing to learn; remove it"
        )
    if chosen.messages[:-1] != rejected.messages[:-1]:
        raise DataError(f"{row.where}: chosen and rejected answer different prompts; give both the same")
    return Pair(chosen, rejected)


def _answer(row: Row, key: str, errors: "Errors", free_turns: bool) -> Example:
    """Read one answer with its prompt; what is wrong is said of the fields that the row has."""
    made = Row(_example(row.fields, key, row.where), row.file, row.line)
    try:
        return parse_row(made, errors, free_turns=free_turns)
    except DataError as error:
        fields = key if row.fields.get("prompt") is None else f"prompt + {key}"
        raise DataError(f"{row.where}: {fields}: {str(error).removeprefix(f'{row.where}: ')}") from None


def _example(fields: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """Make the row of one answer, in a shape that fine-tuning reads."""
    prompt, answer = fields.get("prompt"), fields[key]
    if isinstance(prompt, str) and isinstance(answer, str):
        if not answer.strip():
            raise DataError(f"{where}: field {key!r} is empty, so there is nothing to learn; remove the row")
        return {"prompt": prompt, "completion": answer}
    if isinstance(answer, list) and (prompt is None or isinstance(prompt, list)):
        return {"messages": [*(prompt or []), *answer]}
    raise DataError(
        f"{where}: prompt is {json_type(prompt)} and {key} {json_type(answer)}; both must be texts, or both "
        "lists of messages"
    )


class PairLoader:
    """Training batches of pairs, in an order that is arithmetic, as a pure function of the step.

    chosen, rejected: of each pair. reference: their log-probabilities before training, float64 (2, n).
    """

    def __init__(
        self,
        chosen: Sequence[TokenExample],
        rejected: Sequence[TokenExample],
        *,
        block_size: int,
        batch_size: int,
        seed: int,
        pad: int = 0,
    ) -> None:
        self._fitted = [fit_examples(side, block_size, batch_size, pad) for side in (chosen, rejected)]
        self.block_size, self.batch_size, self.seed, self.pad = block_size, batch_size, seed, pad
        self.reference = np.zeros((2, len(chosen)))
        self._order = Ahead(batch_size, len(chosen), self._at)

    def __len__(self) -> int:
        """Return the number of pairs in an epoch."""
        return self.reference.shape[1]

    def remember(self, model: GPT) -> None:
        """Take the log-probabilities of all answers by `model` as those of the reference."""
        for first in range(0, len(self), self.batch_size):
            index = np.arange(first, min(first + self.batch_size, len(self)))
            batch = self.pairs(index)
            self.reference[:, index] = log_probs(model, batch).reshape(2, -1)

    def batch(self, step: int) -> PairBatch:
        """Build the batch of a step."""
        return self.pairs(self._order.batch(step))

    def _at(self, epochs: U64Array, index: U64Array) -> I64Array:
        return permute(index, len(self), seed=self.seed, epoch=epochs)

    def pairs(self, index: I64Array) -> PairBatch:
        """Build a batch of the pairs of those numbers."""
        ids, targets = pad_rows([fitted.rows[i] for fitted in self._fitted for i in index], self.pad)
        return PairBatch(ids, targets, self.reference[:, index].reshape(-1))

    @property
    def targets(self) -> int:
        """The tokens of all answers, which are learnt from."""
        return sum(int(np.count_nonzero(targets != IGNORED)) for _, targets in self._rows)

    def add_to(self, digest: hashlib.blake2b) -> None:
        """Hash what `fingerprint` hashes of all pairs in one batch, whose padding would take more than they do."""
        width = max(len(ids) for ids, _ in self._rows)
        ids, targets = np.full(width, self.pad, dtype=np.uint32), np.full(width, IGNORED, dtype=np.int64)
        fillings: tuple[U32Array | I64Array, ...] = (ids, targets)
        for part, filling in enumerate(fillings):
            digest.update(f"{filling.dtype.str}{(len(self._rows), width)}".encode())
            for row in self._rows:
                padded = filling.copy()
                padded[: len(row[part])] = row[part]
                digest.update(padded.data)

    @property
    def _rows(self) -> list[tuple[U32Array, I64Array]]:
        """All answers, the chosen ones first."""
        return [row for fitted in self._fitted for row in fitted.rows]

    def describe(self) -> str:
        """One line, with what was cut."""
        chosen, rejected = self._fitted
        cut = chosen.cut_prompts + rejected.cut_prompts + chosen.cut_answers + rejected.cut_answers
        more = f"; {cut} answers or their prompts were cut to fit block_size={self.block_size}" if cut else ""
        return f"{len(self)} pairs{more}"


def log_probs(model: GPT, batch: PairBatch) -> npt.NDArray[np.float64]:
    """Give the log-probability of each answer of a batch, float64 (2 P,)."""
    losses = model.native.token_losses(batch.ids, batch.targets, IGNORED)
    return np.asarray(-losses.astype(np.float64).sum(axis=1))
