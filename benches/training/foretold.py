"""What `subgpt estimate` foretells beside what a run then takes, and what gradient checkpointing costs and saves.

    python benches/training/foretold.py                       # settings A to D, both precisions
    python benches/training/foretold.py D --dtype bfloat16    # one of them

A run is a process of its own: some updates on random letters with the loop of `pretrain`, then its peak of resident
memory as /proc has it (Linux). "Foretold" is the total of `subgpt.estimate`, made in a process of its own, too, as a
user would, and its time of a step; the time that is measured is the median of the run. With checkpoints activations
are made anew in the backward pass; its ratios are to the run without it, in turns with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from settings import SETTINGS, Setting

STEPS = 6


def main() -> None:
    args = arguments()
    if args.one:
        print(json.dumps(run(**json.loads(args.one))))
        return
    print(f"{'':20}{'memory, MiB':>14}{'foretold':>10}{'off':>8}{'step, ms':>12}{'foretold':>10}{'off':>8}")
    found = [
        compared(name, dtype, checkpointing, args.pairs)
        for name in args.settings
        for dtype in args.dtype
        for checkpointing in ((False, True) if name == "D" else (False,))
    ]
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"of {', '.join(SETTINGS)}; all")
    parser.add_argument(
        "--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument("--pairs", type=int, default=3, help="runs of each kind; medians count")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.settings = args.settings or list(SETTINGS)
    if unknown := set(args.settings) - set(SETTINGS):
        parser.error(f"no such setting: {', '.join(sorted(unknown))}; of {', '.join(SETTINGS)}")
    return args


def compared(name: str, dtype: str, checkpointing: bool, pairs: int) -> dict[str, Any]:
    """Run and foretell one setting; print and give its row."""
    asked = {"name": name, "dtype": dtype, "checkpointing": checkpointing}
    plans = [alone({**asked, "plan": True}) for _ in range(pairs)]
    turns = [
        (alone(asked), alone({**asked, "checkpointing": False}) if checkpointing else None) for _ in plans
    ]
    row: dict[str, Any] = dict(asked)
    for what in ("bytes", "seconds"):
        row[what] = statistics.median(seen[what] for seen, _ in turns)
        row[f"foretold_{what}"] = statistics.median(plan[what] for plan in plans)
        row[f"{what}_off"] = abs(row[f"foretold_{what}"] / row[what] - 1)
    if checkpointing:
        row["times_as_long"] = statistics.median(
            seen["seconds"] / plain["seconds"] for seen, plain in turns if plain
        )
        row["of_the_memory"] = statistics.median(
            seen["bytes"] / plain["bytes"] for seen, plain in turns if plain
        )
    label = f"{name} {dtype}{', checkpoints' if checkpointing else ''}"
    print(
        f"{label:24}{row['bytes'] / 2**20:10.0f}{row['foretold_bytes'] / 2**20:10.0f}{row['bytes_off']:8.1%}"
        f"{1e3 * row['seconds']:12.1f}{1e3 * row['foretold_seconds']:10.1f}{row['seconds_off']:8.1%}"
        + (
            f"   {row['times_as_long']:.2f} x the time, {row['of_the_memory']:.2f} x the memory"
            if checkpointing
            else ""
        ),
        flush=True,
    )
    return row


def alone(asked: dict[str, Any]) -> dict[str, float]:
    """Do it in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(name: str, dtype: str, checkpointing: bool, plan: bool = False) -> dict[str, float]:
    """Train for some steps, or foretell it; give the bytes of the process and the seconds of a step."""
    import subgpt

    setting = SETTINGS[name]
    shape = subgpt.GPTConfig(**setting.shape, bias=False)
    config = subgpt.TrainConfig(
        max_steps=STEPS, batch_size=setting.batch, dtype=dtype, gradient_checkpointing=checkpointing,
        eval_steps=0, save_steps=0, val_fraction=0.0,
    )  # fmt: skip
    if plan:
        told = subgpt.estimate(shape, config, seconds=2.0)
        return {"bytes": told.total_bytes, "seconds": told.step_seconds}
    seconds = trained(shape, config, setting)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return {"bytes": int(peak.split()[1]) << 10, "seconds": seconds}


def trained(shape: Any, config: Any, setting: Setting) -> float:
    """Train on random letters, without a directory; give the median seconds of a step after the first."""
    import random
    import string
    import time
    from itertools import pairwise

    import subgpt

    class Clock(subgpt.Callback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step(self, event: object) -> None:  # noqa: ARG002
            self.times.append(time.perf_counter())

    text = "".join(random.Random(0).choices(string.ascii_lowercase, k=setting.tokens * (STEPS + 1)))
    tokenizer, clock = subgpt.Tokenizer.train(iter([text]), level="char"), Clock()
    model = subgpt.GPT(shape, seed=1, dtype=config.dtype)
    subgpt.pretrain(model, tokenizer, iter([text]), config, callbacks=[clock])
    return statistics.median(after - before for before, after in pairwise(clock.times))


if __name__ == "__main__":
    main()
