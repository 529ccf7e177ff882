"""What an update makes smaller: the loss of a step's micro-batches, and its gradient.

Accumulation is weighted by tokens: with n_i targets that count in micro-batch i and N in all, its gradient
enters with n_i / N, so that the sum is the gradient of the mean over all N tokens, however unevenly they lie.
Dividing by the number of micro-batches instead is a well-known mistake (huggingface/transformers#34191).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from subgpt.data.loader import IGNORED, Batch
from subgpt.data.packing import PackedBatch, documents
from subgpt.evaluation.measure import count_targets
from subgpt.model.gpt import GPT


class Loss(NamedTuple):
    """The mean loss in nats before the update, and over how many targets; 0 where there is none."""

    loss: float
    targets: int


class Objective(Protocol):
    """Adds the gradient of a step to the model's."""

    def backward(self, model: GPT, batches: Sequence[Any]) -> Loss:
        """Add the gradient of the loss over all `batches` to the model's gradients."""


class NextToken:
    """The mean cross-entropy of the next token over all targets that count."""

    def backward(self, model: GPT, batches: Sequence["Batch | PackedBatch"]) -> Loss:
        """Add the gradient of the mean over all micro-batches."""
        counts = [count_targets(batch[1]) for batch in batches]
        total, loss = sum(counts), 0.0
        for batch, count in zip(batches, counts, strict=True):
            if count:
                ids, targets, share = batch[0], batch[1], count / total
                loss += share * model.backward(
                    ids, targets, ignore_index=IGNORED, scale=share, documents=documents(batch)
                )
        return Loss(loss, total)


NEXT_TOKEN = NextToken()
"""The objective of pretraining and fine-tuning."""
