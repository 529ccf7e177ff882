"""How large a quickstart is: one number, the steps, decides everything else."""

from dataclasses import dataclass
from typing import Any

DEFAULT_STEPS = 900
VOCAB_SIZE = 4096

PROMPT = "The function returns"
# No blank at their ends: it would belong to the next token.
SAMPLE_PROMPTS = ("    def __init__(self,", "    for", "The value of the")
EXAMPLE = 'def greet(name):\n    """Say hello."""\n    return "hello, " + name'


@dataclass(frozen=True)
class Plan:
    """The sizes of a quickstart of `steps` pretraining steps.

    The default fits two cores for less than four minutes. With fewer steps less of the corpus is
    used, so that a run of a few steps takes a few seconds.
    """

    steps: int = DEFAULT_STEPS
    seed: int = 0

    @property
    def model(self) -> dict[str, Any]:
        """The fields of GPTConfig: 4 layers of 192, GPT-2's block.

        At equal arithmetic, 900 steps of this ended at a loss of 4.83, 580 of a width of 256 at 4.99.
        """
        return {"block_size": 128, "n_layer": 4, "n_head": 3, "n_embd": 192, "activation": "gelu_new"}

    @property
    def corpus_bytes(self) -> int | None:
        """How much text is used at most; None for all of it."""
        return None if self.steps >= DEFAULT_STEPS // 2 else 500_000 + 15_000 * self.steps

    @property
    def pairs(self) -> int | None:
        """How many question and answer pairs are used at most; None for all."""
        return None if self.steps >= DEFAULT_STEPS // 2 else 120 + 16 * self.steps

    @property
    def pretraining(self) -> dict[str, Any]:
        """The fields of TrainConfig for pretraining."""
        return {
            "max_steps": self.steps,
            "batch_size": 8,  # 580 steps of 8 windows ended at 4.99, 290 of 16 at 5.22
            "learning_rate": 3e-3,
            "min_learning_rate": 1e-4,
            "eval_steps": -(-self.steps // 8),
            "eval_batches": self.eval_batches,
            "val_fraction": 0.03,
            "save_steps": 0,
            "save_total_limit": 1,
            "seed": self.seed,
        }

    @property
    def finetuning(self) -> dict[str, Any]:
        """The fields of TrainConfig for fine-tuning."""
        steps = max(1, self.steps // 3)
        return {
            "max_steps": steps,
            "batch_size": 16,
            "learning_rate": 5e-4,
            "eval_steps": -(-steps // 5),
            "eval_batches": self.eval_batches,
            "save_steps": 0,
            "save_total_limit": 1,
            "seed": self.seed,
        }

    @property
    def sample_tokens(self) -> int:
        """Tokens in each sample."""
        return min(96, 8 + self.steps)

    @property
    def answer_tokens(self) -> int:
        """Tokens in each answer at most."""
        return min(40, 8 + self.steps)

    @property
    def eval_batches(self) -> int:
        """Batches in each validation."""
        return 24 if self.steps >= DEFAULT_STEPS // 2 else 3
