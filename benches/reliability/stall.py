"""What a checkpoint costs a run: the time that steps take longer because one is copied and written meanwhile.

The gaps between steps are measured; those between two checkpoints that exceed the median gap are what the checkpoint
before them cost, summed. "waits" is the same with a run that waits until each checkpoint is on the disk.

    python benches/reliability/stall.py --preset nano
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import subgpt
from subgpt.checkpoint import draft
from subgpt.training.keeper import Keeper


class Clock(subgpt.Callback):
    """Notes the time of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, event: object) -> None:  # noqa: ARG002
        self.times.append(time.perf_counter())


def costs(folder: Path, arguments: argparse.Namespace, *, waits: bool) -> tuple[float, list[float]]:
    """Train once; gives the median gap between steps and what each checkpoint cost, in seconds."""
    text = "".join(chr(97 + number) for number in np.random.default_rng(0).integers(0, 26, 200_000))
    tokenizer = subgpt.Tokenizer.train(iter([text]), level="char")
    shape = subgpt.GPTConfig.preset(arguments.preset, vocab_size=arguments.vocab_size)
    model, clock = subgpt.GPT(shape, seed=1), Clock()
    config = subgpt.TrainConfig(
        max_steps=arguments.every * (arguments.saves + 1), batch_size=arguments.batch_size, eval_steps=0,
        val_fraction=0.0, save_steps=arguments.every,
    )  # fmt: skip
    save, memory = Keeper.save, draft.memory_folder
    try:
        if waits:
            Keeper.save = lambda self, wait: save(self, True)  # noqa: ARG005
            draft.memory_folder = lambda needed: None  # noqa: ARG005
        subgpt.pretrain(model, tokenizer, iter([text]), config, output_dir=folder, callbacks=[clock])
    finally:
        Keeper.save, draft.memory_folder = save, memory
    gaps = np.diff(clock.times)
    usual = statistics.median(gaps)
    # The gap after step n ends with step n + 1: the checkpoint of step n is made in it, and written in the next ones.
    starts = range(arguments.every - 1, len(gaps) - arguments.every + 1, arguments.every)
    return usual, [float(np.sum(gaps[start : start + arguments.every] - usual)) for start in starts]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints, while measuring")
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--save-steps", type=int, default=500, help="steps between checkpoints, in the share")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    arguments = parser.parse_args()
    parameters = subgpt.GPTConfig.preset(arguments.preset, vocab_size=arguments.vocab_size).num_params()
    print(f"{arguments.preset}, {parameters:,} parameters, a checkpoint is {12 * parameters / 2**20:.0f} MiB")
    print(f"{'':>12}{'step, ms':>12}{'a checkpoint, ms':>20}{f'of {arguments.save_steps} steps':>16}")
    rows = []
    for name, waits in (("background", False), ("waits", True)):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            usual, found = costs(Path(folder) / "run", arguments, waits=waits)
        cost = statistics.median(found)
        share = cost / (arguments.save_steps * usual)
        print(f"{name:>12}{1e3 * usual:>12.1f}{1e3 * cost:>20.1f}{share:>16.2%}", flush=True)
        rows.append({"how": name, "step_seconds": usual, "checkpoint_seconds": cost, "share": share})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
