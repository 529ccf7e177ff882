"""Training steps on random ids: what `estimate` and `bench` time."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from subgpt.data.loader import Batch
from subgpt.data.permutation import counter_hash
from subgpt.model.config import GPTConfig
from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.make_optimizer import make_optimizer
from subgpt.training.start import prepare
from subgpt.training.workers import ALONE


class Steps:
    """A fresh model with its optimizer, and the three things a training run does with them.

    config: resolved (`TrainConfig.resolved`). Ids and targets are random: the time of a step does not depend
    on them.
    """

    def __init__(self, model: GPTConfig, config: TrainConfig, batch_size: int | None = None) -> None:
        self.config = config
        self.model = GPT(model, seed=config.seed, dtype=config.dtype or "float32")
        prepare(self.model, config)
        self.optimizer = make_optimizer(self.model, config)
        shape = (2, batch_size or config.batch_size, config.block_size or model.block_size)
        drawn = counter_hash(config.seed, np.arange(math.prod(shape), dtype=np.uint64)).reshape(shape)
        ids = drawn % np.uint64(model.vocab_size)
        self.batch: Batch = ids[0].astype(np.uint32), ids[1].astype(np.int64)

    def backward(self) -> None:
        """Make one forward and one backward pass."""
        self.model.backward(*self.batch, scale=1.0 / self.config.gradient_accumulation_steps)

    def update(self) -> None:
        """Clip, update the weights once and clear the gradients."""
        ALONE.clip(self.model, self.config.max_grad_norm)
        self.optimizer.step()
        self.model.zero_grad()

    def step(self) -> None:
        """Make one training step."""
        for _ in range(self.config.gradient_accumulation_steps):
            self.backward()
        self.update()

    def loss(self) -> None:
        """Make one forward pass, as validation does."""
        self.model.loss(*self.batch)


@dataclass(frozen=True)
class Timing:
    """Seconds of a call, over `calls` calls: the median, and the fastest."""

    median: float
    fastest: float
    calls: int


def timed(call: Callable[[], object], seconds: float, least: int = 1) -> Timing:
    """Repeat `call` for about `seconds`, at least `least` times; what goes before it should be warm."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() + min(times) < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return Timing(statistics.median(times), min(times), len(times))


def gflop(config: GPTConfig, batch_size: int, block_size: int) -> float:
    """Count the arithmetic of the products of one forward and backward pass, in 1e9 operations.

    A multiply-add is two. Six for each weight of a product and each token (2 forward, 4 backward), and causal
    attention: 6 T C a token and block, for heads of C together. Norms, activations and what checkpointing computes
    again do not count.

    >>> round(gflop(GPTConfig.preset("gpt2"), 1, 1024))
    817
    """
    tokens = batch_size * block_size
    weights = config.n_layer * config.block_weights + config.vocab_size * config.n_embd
    attention = 6 * config.n_layer * block_size * config.n_head * config.head_size * tokens
    return (6 * tokens * weights + attention) / 1e9
