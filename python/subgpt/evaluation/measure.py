"""The loss over held-out batches, weighted by targets, and what follows from it.

Perplexity is exp(loss), where that is one of tokens. Bits per byte is the loss summed over all targets, in bits,
divided by the UTF-8 bytes of the text: unlike loss and perplexity it does not depend on the tokenizer, so models with
different ones can be compared.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from subgpt.data.loader import IGNORED, Batch, Batches, I64Array
from subgpt.data.packing import PackedBatch, documents
from subgpt.errors import DataError
from subgpt.model.gpt import GPT


@dataclass(frozen=True)
class Evaluation:
    """What a pass over held-out text showed.

    loss: nats per target. perplexity: exp(loss); None for the loss of preferences, of which it is none. bits_per_byte:
    None where the number of bytes is not known. tokens: targets that were predicted, in `unit`. seconds: how long it
    took. unit: "tokens", or "pairs" of preferences.
    """

    loss: float
    perplexity: float | None
    bits_per_byte: float | None
    tokens: int
    seconds: float = 0.0
    unit: str = "tokens"

    def __str__(self) -> str:
        perplexity = "" if self.perplexity is None else f", perplexity {self.perplexity:.2f}"
        bits = "" if self.bits_per_byte is None else f", {self.bits_per_byte:.4f} bits per byte"
        return f"loss {self.loss:.4f}{perplexity}{bits} over {self.tokens:,} {self.unit}"


def next_token_loss(model: GPT, batch: "Batch | PackedBatch") -> tuple[float, int]:
    """Give the mean loss of a batch in nats, and over how many targets."""
    ids, targets = batch[0], batch[1]
    count = count_targets(targets)
    loss = model.loss(ids, targets, ignore_index=IGNORED, documents=documents(batch)) if count else 0.0
    return loss, count


@dataclass(frozen=True)
class HeldOut:
    """Held-out data: its batches, best made when they are asked for, its targets in all, and its bytes (0: unknown).

    loss: gives the mean loss of one batch, and over how many targets. unit: what a target is; only a loss of tokens has
    a perplexity.
    """

    batches: Sequence[Any]
    targets: int
    text_bytes: int = 0
    loss: Callable[[GPT, Any], tuple[float, int]] = next_token_loss
    unit: str = "tokens"

    def limited(self, limit: int) -> "HeldOut":
        """Keep at most `limit` batches, spread evenly over the whole, so that every part has its say; 0: all."""
        total = len(self.batches)
        if limit == 0 or limit >= total:
            return self
        chosen = [place * total // limit for place in range(limit)]
        return replace(self, batches=Batches(chosen, self.batches.__getitem__))


def measure(
    model: GPT, held_out: HeldOut, add: Callable[[tuple[float, int]], Iterable[float]] | None = None
) -> Evaluation:
    """Take the mean loss of `model` over `held_out`, without dropout, without touching gradients.

    add: makes the sums of all processes from those of this one, where each has some of the batches.
    """
    begin = time.monotonic()
    nats, tokens = 0.0, 0
    for batch in held_out.batches:
        mean, count = held_out.loss(model, batch)
        nats, tokens = nats + count * mean, tokens + count
    if add is not None:
        nats, every = add((nats, tokens))
        tokens = int(every)
    if tokens == 0:
        raise DataError("the held-out data has no target that counts; give more of it")
    loss = nats / tokens
    bits = loss * held_out.targets / (held_out.text_bytes * math.log(2)) if held_out.text_bytes else None
    likelihood = perplexity(loss) if held_out.unit == "tokens" else None
    return Evaluation(loss, likelihood, bits, tokens, time.monotonic() - begin, held_out.unit)


def count_targets(targets: I64Array) -> int:
    """Count the targets that are not masked."""
    return int(np.count_nonzero(targets != IGNORED))


def perplexity(loss: float) -> float:
    """Give exp(loss), infinite where that is beyond a float.

    >>> perplexity(0.0), perplexity(1e6), perplexity(math.nan)
    (1.0, inf, nan)
    """
    return math.inf if loss >= 700 else math.exp(loss)
