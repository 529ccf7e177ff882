"""A learning rate that is too small, one that is right and one that is too large, on one plot.

    python examples/learning_rates.py -o learning-rates.png

The same model, the same batches, plain gradient descent (no momentum, no clipping, a constant rate): only the rate
differs. The small one crawls, the right one converges, the large one diverges within some steps.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from common import DATA, need, run

import subgpt
from subgpt.report import save_curves_plot

RATES = {"too small": 1e-3, "right": 0.05, "too large": 3.0}


class Losses(subgpt.Callback):
    """The loss of each update, kept also where the run ends by force."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step(self, event: object) -> None:
        """Keep the loss."""
        self.seen.append(event.loss)  # type: ignore[attr-defined]


def losses(text: str, tokenizer: subgpt.Tokenizer, rate: float, steps: int) -> list[float]:
    """Train nanoGPT's model for a CPU with one rate and give the loss of each step."""
    shape = subgpt.GPTConfig.preset("nanogpt-cpu", vocab_size=tokenizer.vocab_size)
    config = subgpt.TrainConfig(
        max_steps=steps,
        batch_size=12,
        optimizer="sgd",
        learning_rate=rate,
        weight_decay=0.0,
        max_grad_norm=0.0,
        lr_scheduler_type="constant",
        warmup_steps=0,
        eval_steps=0,
        eval_batches=1,
    )
    watch = Losses()
    try:
        subgpt.pretrain(subgpt.GPT(shape, seed=1, dtype="auto"), tokenizer, [text], config, callbacks=[watch])
    except subgpt.LossError as error:
        print(f"rate {rate:g}: {error}")
    return watch.seen


def main() -> None:
    """Train three times, print a table, draw the picture."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=DATA, help="folder with corpora/ (%(default)s)")
    made.add_argument("--steps", type=int, default=400, help="updates of each run (%(default)s)")
    made.add_argument("-o", "--output", type=Path, default=Path("learning-rates.png"), help="the picture")
    given = made.parse_args()
    text = need(given.data / "corpora" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = subgpt.Tokenizer.train([text], level="char", special_tokens=("<|endoftext|>",))
    courses = {name: losses(text, tokenizer, rate, given.steps) for name, rate in RATES.items()}
    print("| learning rate | | first loss | highest | last (mean of 20) |\n|---|---|---|---|---|")
    for name, course in courses.items():
        last = sum(course[-20:]) / len(course[-20:])
        ended = f"no number after step {len(course)}" if len(course) < given.steps else f"{last:.2f}"
        print(f"| {RATES[name]:g} | {name} | {course[0]:.2f} | {max(course):,.2f} | {ended} |")
    named = {  # where a run ended by force its next loss was no number
        f"{name}: {RATES[name]:g}": course + [math.nan] * (len(course) < given.steps)
        for name, course in courses.items()
    }
    title = "One model, three learning rates"
    print(f"written: {save_curves_plot(named, given.output, title=title, smooth=True)}")


if __name__ == "__main__":
    run(main)
