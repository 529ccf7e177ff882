"""What adapters cost and save beside full training: time of a step, and memory.

    python benches/finetuning/lora.py                                      # both dtypes, all variants
    python benches/finetuning/lora.py --dtype bfloat16 --pairs 11 --json lora.json

The shape is setting C of the training benches, GPT-2 with 124 million parameters on 4 x 256 tokens; a step is forward,
backward, clipping and AdamW. Each variant is a process of its own that takes turns with one that trains all weights, as
in benches/training; the ratio is the median over their pairs with a quiet machine, null where there are none. All
start from the same weights: a fresh adapter changes nothing, so first losses must agree (over a base in 8 or 4 bits
nearly) before anything is timed. "planned" is what `native_memory` says of the run, "peak" the peak resident set of the
process while it trained, interpreter and libraries included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from compare import race, warm_up, write_batches
from processes import Process, environment, pin
from report import circumstances
from settings import BETAS, BIAS, SETTINGS, WEIGHT_DECAY
from sides import Job

import subgpt
from subgpt.performance.memory import native_memory

SETTING = SETTINGS["C"]
LORA: dict[str, Any] = {"lora_r": 8}


@dataclass(frozen=True)
class Variant:
    """What is trained, by settings of a run, and how far its first loss may be from full training's."""

    settings: dict[str, Any]
    tolerance: float = 1e-3


VARIANTS = {
    "LoRA, all linear": Variant(LORA),
    "LoRA, c_attn": Variant({**LORA, "target_modules": "c_attn"}),
    "DoRA, all linear": Variant({**LORA, "use_dora": True}),
    "QLoRA int8": Variant({**LORA, "quantize_base": "int8"}, 1e-2),
    "QLoRA int4": Variant({**LORA, "quantize_base": "int4"}, 5e-2),
}


def main() -> None:
    args = arguments()
    pin(args.threads)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        write_batches(Path(folder), SETTING, args.warmup + args.steps)
        for dtype in args.dtype:
            results += measured(args, dtype, folder)
    print(table(results))
    if args.json:
        found = {**circumstances(args.threads), "options": vars(args), "results": results}
        Path(args.json).write_text(json.dumps(found, indent=1, default=str) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument("--pairs", dest="steps", type=int, default=7, help="timed pairs of steps a variant")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--patience", type=float, default=20, help="seconds to wait for a quiet machine")
    parser.add_argument("--threads", type=int, default=subgpt.get_num_threads())
    parser.add_argument("--json", help="write everything measured into this file")
    args = parser.parse_args()
    args.warmup, args.clock = 2, "wall"
    if args.steps < 1:
        parser.error("--pairs is 1 or more")
    return args


def measured(args: argparse.Namespace, dtype: str, folder: str) -> list[dict[str, Any]]:
    """Race every variant against full training, which stays from one to the next."""
    full = started(dtype, args.threads, folder, {})
    first = full.turn("steps", first=0, count=args.warmup)["losses"]
    rows = []
    try:
        for name in args.variants:
            rows.append(
                {"dtype": dtype, "name": name, **raced(args, dtype, folder, full, first[0], VARIANTS[name])}
            )
            print(f"{dtype} {name}: {shown(rows[-1])}", file=sys.stderr, flush=True)
        rows.insert(0, {"dtype": dtype, "name": "all weights", **resources(full, dtype, {})})
    finally:
        full.close()
    seconds = [pair["full"] for row in rows[1:] for pair in row["rounds"]]
    return [{**rows[0], "seconds": statistics.median(seconds), "ratio": 1.0}, *rows[1:]]


def raced(
    args: argparse.Namespace, dtype: str, folder: str, full: Process, first: float, variant: Variant
) -> dict[str, Any]:
    side = started(dtype, args.threads, folder, variant.settings)
    try:
        _, losses = warm_up({"adapted": side}, args.warmup)
        if not abs(losses["adapted"][0] - first) <= variant.tolerance * first:
            raise SystemExit(f"{variant.settings}: the first loss is {losses['adapted'][0]}, not {first}")
        rounds = race({"full": full, "adapted": side}, args, 1)
        calm = [pair for pair in rounds if pair["counts"]]
        ratios = [pair["full"] / pair["adapted"] for pair in calm]
        return {
            "seconds": statistics.median(pair["adapted"] for pair in calm or rounds),
            "ratio": statistics.median(ratios) if ratios else None,
            "quiet": len(calm),
            "rounds": rounds,
            **resources(side, dtype, variant.settings),
        }
    finally:
        side.close()


def started(dtype: str, threads: int, folder: str, settings: dict[str, Any]) -> Process:
    config = {**SETTING.shape, "bias": BIAS}
    job = Job("subgpt", config, dtype, threads, folder, BETAS, WEIGHT_DECAY, train=settings)
    return Process(job, environment(threads))


def resources(side: Process, dtype: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Give the bytes that a run plans with, and the most that its process had."""
    config = subgpt.GPTConfig(**SETTING.shape, bias=BIAS)
    run = subgpt.TrainConfig(batch_size=SETTING.batch, dtype=dtype, val_fraction=0, **settings)
    planned = native_memory(config, run.resolved(config.block_size))
    return {"planned": planned, "peak": side.turn("memory")["peak"]}


def shown(row: dict[str, Any]) -> str:
    return "no quiet pair" if row["ratio"] is None else f"{row['ratio']:.2f} x"


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| dtype | trained | ms a step | faster than all weights | weights | gradients and moments | planned | peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results:
        planned = row["planned"]
        learnt = planned["gradients"] + planned["optimizer"]
        sizes = [planned["parameters"], learnt, sum(planned.values()), row["peak"]]
        cells = [row["dtype"], row["name"], f"{row['seconds'] * 1e3:.0f}", shown(row)]
        lines.append(f"| {' | '.join([*cells, *(f'{size / 2**20:,.0f} MiB' for size in sizes)])} |")
    quiet = min((row["quiet"] for row in results if "quiet" in row), default=0)
    pairs = min((len(row["rounds"]) for row in results if "rounds" in row), default=0)
    return "\n".join([*lines, "", f"medians of {pairs} pairs or more, of which at least {quiet} were quiet"])


if __name__ == "__main__":
    main()
