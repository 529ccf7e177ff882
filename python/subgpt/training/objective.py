"""What an update makes smaller: the loss of a step's micro-batches, and its gradient.

Accumulation is weighted by tokens: with n_i targets that count in micro-batch i and N in all, its gradient
enters with n_i / N, so that the sum is the gradient of the mean over all N tokens, however unevenly they lie.
Dividing by the number of micro-batches instead is a well-known mistake (huggingface/transformers#34191).

The parts of an update can be made by several processes: an objective says what a part is and how its masks of dropout
are numbered, so that together they compute what one process would.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from subgpt.data.loader import IGNORED, Batch
from subgpt.data.packing import PackedBatch, documents
from subgpt.evaluation.measure import count_targets
from subgpt.model.gpt import GPT

if TYPE_CHECKING:
    from subgpt.model.listener import GradientListener


class Loss(NamedTuple):
    """The mean loss in nats before the update, and over how many targets; 0 where there is none."""

    loss: float
    targets: int


class Objective(ABC):
    """The mean of something over all targets of an update that count.

    unit: what a target is, for people. sequences: how many sequences each of a batch's `batch_size` has.
    """

    unit: ClassVar[str] = "tokens"
    sequences: ClassVar[int] = 1

    def backward(self, model: GPT, batches: Sequence[Any]) -> Loss:
        """Add the gradient of the mean over all `batches` to the model's."""
        batches = list(batches)
        counts = [self.count(batch) for batch in batches]
        total = sum(counts)
        parts = [
            self.add_gradient(model, batch, total)
            for batch, count in zip(batches, counts, strict=True)
            if count
        ]
        return Loss(sum(parts), total)

    @abstractmethod
    def count(self, batch: Any) -> int:
        """Count the targets of a batch that count."""

    @abstractmethod
    def add_gradient(
        self, model: GPT, batch: Any, total: int, listener: "GradientListener | None" = None
    ) -> float:
        """Add the share of a batch in the gradient of the mean over `total` targets; give its share of that mean.

        listener: hears of pieces of all gradients once this adds nothing more to them.
        """

    @abstractmethod
    def size(self, batch: Any) -> int:
        """Count the rows of a batch, which can be divided."""

    @abstractmethod
    def rows(self, batch: Any, start: int, stop: int) -> Any:
        """Give the part of a batch from row `start` to `stop`."""

    @abstractmethod
    def masks(self, counts: Sequence[Sequence[int]], number: int, part: int, start: int) -> tuple[int, int]:
        """Tell how the masks of dropout of a part are numbered: passes of the update, and rows of its pass, before it.

        counts: the targets of each part of each batch. number, part: whose; `number` beyond the last tells of all
        passes. start: the first row of the part.
        """


class NextToken(Objective):
    """The mean cross-entropy of the next token over all targets that count."""

    def count(self, batch: "Batch | PackedBatch") -> int:
        """Count the targets that are not masked."""
        return count_targets(batch[1])

    def add_gradient(
        self,
        model: GPT,
        batch: "Batch | PackedBatch",
        total: int,
        listener: "GradientListener | None" = None,
    ) -> float:
        """Make one backward pass."""
        ids, targets, share = batch[0], batch[1], self.count(batch) / total
        return share * model.backward(
            ids, targets, ignore_index=IGNORED, scale=share, documents=documents(batch), listener=listener
        )

    def size(self, batch: "Batch | PackedBatch") -> int:
        """Count its rows."""
        return len(batch[0])

    def rows(self, batch: "Batch | PackedBatch", start: int, stop: int) -> "Batch | PackedBatch":
        """Cut all its arrays."""
        if isinstance(batch, PackedBatch):
            x, y, segments = batch
            return PackedBatch(x[start:stop], y[start:stop], segments[start:stop])
        ids, targets = batch
        return ids[start:stop], targets[start:stop]

    def masks(self, counts: Sequence[Sequence[int]], number: int, part: int, start: int) -> tuple[int, int]:
        """Count the batches before that are not empty: each is one pass, of which a part has some rows."""
        del part
        return sum(any(parts) for parts in counts[:number]), start


NEXT_TOKEN = NextToken()
"""The objective of pretraining and fine-tuning."""
