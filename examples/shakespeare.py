"""Shakespeare, character by character: nanoGPT's well-known example for a CPU, on the same budget.

The model sees as many characters as nanoGPT's does with its settings for a CPU (2,000 updates of 12 x 64), the same
first nine tenths of the same text. It has today's block instead of GPT-2's, a few parameters fewer, and is trained with
Muon; the loss is over the whole last tenth. nanoGPT's README gives 1.88.

    python examples/shakespeare.py
    python examples/shakespeare.py --steps 8000       # four times as long: what more of it is worth
    python examples/shakespeare.py --speaker JULIET --data input.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import DATA, need, run

import subgpt

PUBLISHED = 1.88
"""Validation loss in nats per character: nanoGPT's README, "I only have a macbook"."""


def main() -> None:
    """Train, compare the loss with the published one, and let somebody speak."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument(
        "--data", type=Path, default=DATA / "corpora" / "tinyshakespeare.txt", help="the text (%(default)s)"
    )
    parse.add_argument("--steps", type=int, default=2000, help="updates (%(default)s, as nanoGPT's)")
    parse.add_argument("--speaker", default="ROMEO", help="who is to speak (%(default)s)")
    given = parse.parse_args()

    text = need(given.data).read_text(encoding="utf-8")
    tokenizer = subgpt.Tokenizer.train([text], level="char")
    shape = subgpt.GPTConfig.preset("nano-modern", vocab_size=tokenizer.vocab_size)
    model = subgpt.GPT(shape, seed=1337, dtype="auto")
    config = subgpt.TrainConfig(
        max_steps=given.steps,
        batch_size=12,
        optimizer="muon",
        learning_rate=3e-3,  # of what is no matrix; the matrices have muon_learning_rate
        muon_learning_rate=0.02,
        eval_steps=max(1, given.steps // 4),
        eval_batches=0,  # the whole last tenth
        seed=1337,
    )
    course = subgpt.pretrain(model, tokenizer, given.data, config)
    last = course.val_losses[-1]
    print(f"\n{model.num_params():,} parameters, {course.tokens:,} characters seen in {course.seconds:.0f} s")
    print(f"validation loss {last:.3f} nats per character; nanoGPT's model for a CPU: {PUBLISHED}\n")
    print(
        subgpt.generate(model, tokenizer, f"{given.speaker}:\n", temperature=0.8, max_new_tokens=500, seed=1)
    )


if __name__ == "__main__":
    run(main)
