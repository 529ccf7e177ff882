"""What the training benches train: the four settings, their arithmetic, and nanoGPT's optimizer."""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")


@dataclass(frozen=True)
class Setting:
    """A model's shape and the batch it sees; `turn` is the number of steps a side makes before the other's turn."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int
    batch: int
    turn: int = 1

    @property
    def shape(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def tokens(self) -> int:
        return self.batch * self.block_size

    def __str__(self) -> str:
        return (
            f"{self.n_layer} layers, {self.n_head} heads, {self.n_embd} wide, block {self.block_size}, "
            f"vocabulary {self.vocab_size}, batch {self.batch}"
        )


SETTINGS = {
    "A": Setting(4, 4, 128, 64, 65, batch=12, turn=8),
    "B": Setting(6, 6, 384, 256, 65, batch=16),
    "C": Setting(12, 12, 768, 256, 50257, batch=4),
    "D": Setting(12, 12, 768, 1024, 50257, batch=1),
}

BIAS = False  # the default of nanoGPT's train.py, which all its configurations for training from scratch keep
LEARNING_RATE = 1e-3
BETAS = (0.9, 0.99)
WEIGHT_DECAY = 0.1


def flops(shape: dict[str, int], batch: int, params: int) -> float:
    """Operations of a training step in its matrix products, a multiply-add counted as two.

    Forward, gradient of the input and gradient of the weight are 2 N each for each weight that multiplies: all but
        the positions (the tied embedding multiplies as the output projection). Attention does the same for the keys
        a query sees, half of the block on average, in two products a layer: 3 x 2 x 2 x L x T / 2 x C for each
        token.
    """
    tokens = batch * shape["block_size"]
    weights = params - shape["block_size"] * shape["n_embd"]
    attention = 6 * shape["n_layer"] * shape["block_size"] * shape["n_embd"]
    return float(tokens) * (6 * weights + attention)
