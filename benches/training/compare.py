"""Trains the same model here and in PyTorch, step by step in alternation, and prints the ratio.

    python benches/training/compare.py A                                  # against PyTorch out of the box
    python benches/training/compare.py A --peer tuned --dtype bfloat16    # against PyTorch at its best
    python benches/training/compare.py C --peer compile --steps 6 --json c.json

Settings: A is nanoGPT's configuration for a CPU (README, "I only have a macbook"), B its Shakespeare model with
a smaller batch, C and D GPT-2 with 124 million parameters on 1,024 tokens. The model is nanoGPT's: exact GELU,
no dropout, tied embeddings, no biases (`bias=False`, the default of nanoGPT's train.py, in all four). A step is
forward, backward, clipping to norm 1 and AdamW. bfloat16 is `torch.autocast("cpu", torch.bfloat16)` around the
peer's forward pass and `GPT(..., dtype="bfloat16")` here: float32 weights and moments in both.

Peers: "eager" and "compile" are out of the box: `torch.optim.AdamW` with its defaults (nanoGPT asks for the
fused one on CUDA only) and no environment but OMP_NUM_THREADS. "tuned" has fused AdamW, tcmalloc and Intel's
OpenMP preloaded, and KMP_AFFINITY=granularity=fine,compact,1,0; so does "tuned-compile", with `torch.compile`.

Each side is a process of its own on the same cores; the one that waits is stopped. Both start from the same
weights and see the same batches, and their losses must agree (float32 to 1e-3, bfloat16 to 2e-2, relative)
before anything is timed. The sides alternate, in A eight steps at a time since its steps are short. The ratio
is the median over the pairs during which other programs took less than 5 % of the cores (`quiet.py` says why);
the bench waits for such moments, `--patience` seconds in all, and stores every pair. Where none come,
`--threads 1 --clock cpu` times the processor's work on one thread, which company hardly changes. Memory is the
peak resident set of each process since its model was made, and what was resident before (interpreter and
libraries). Without torch only subgpt's own time is printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import quiet
from processes import PEERS, Process, environment, pin
from report import circumstances
from settings import BETAS, BIAS, LEARNING_RATE, SETTINGS, WEIGHT_DECAY, Setting, flops
from sides import Job

import subgpt

TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}


def main() -> None:
    args = arguments()
    setting = SETTINGS[args.setting]
    turn = args.turn or setting.turn
    torch = importlib.util.find_spec("torch") is not None
    if not torch:
        print("PyTorch is not here (pip install torch): only subgpt is timed")
    with tempfile.TemporaryDirectory() as folder:
        write_batches(Path(folder), setting, args.warmup + args.steps * turn)
        sides = start(args, setting, folder, torch)
        try:
            first, losses = warm_up(sides, args.warmup)
            check(losses, TOLERANCE[args.dtype])
            rounds = race(sides, args, turn)
            peaks = {name: side.turn("memory")["peak"] for name, side in sides.items()}
        finally:
            for side in sides.values():
                side.close()
    facts = {name: side.facts for name, side in sides.items()}
    result = {
        **circumstances(args.threads),
        "options": vars(args),
        "setting": {**setting.shape, "batch": setting.batch, "bias": BIAS, "turn": turn},
        "peer": None if not torch else {"kind": args.peer, **facts["torch"]},
        "before": facts["subgpt"]["before"],
        "params": facts["subgpt"]["params"],
        "gflop": flops(setting.shape, setting.batch, facts["subgpt"]["params"]) / 1e9,
        "losses": losses,
        "rounds": rounds,
        **summary(rounds, first, peaks, facts),
    }
    show(args, setting, result)
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1, default=str) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32")
    parser.add_argument("--peer", choices=PEERS, default="eager")
    parser.add_argument("--steps", type=int, default=20, help="timed pairs of turns on a quiet machine")
    parser.add_argument("--turn", type=int, help="steps of a side before the other's turn")
    parser.add_argument("--warmup", type=int, default=3, help="pairs before, whose losses are compared")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine")
    parser.add_argument("--threads", type=int, default=subgpt.get_num_threads())
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu needs --threads 1")
    parser.add_argument("--json", help="write everything measured into this file")
    args = parser.parse_args()
    if args.steps < 1 or args.warmup < 1 or (args.turn is not None and args.turn < 1):
        parser.error("--steps, --turn and --warmup are 1 or more")
    if args.clock == "cpu" and args.threads != 1:
        parser.error("--clock cpu needs --threads 1: threads that spin would count as work")
    return args


def write_batches(folder: Path, setting: Setting, count: int) -> None:
    rng = np.random.default_rng(1)
    shape = (count, setting.batch, setting.block_size)
    for name in ("ids", "targets"):
        np.save(folder / f"{name}.npy", rng.integers(0, setting.vocab_size, shape))
    np.save(folder / "rates.npy", np.full(count, LEARNING_RATE))


def start(args: argparse.Namespace, setting: Setting, folder: str, torch: bool) -> dict[str, Process]:
    """Start our side, which writes the weights, then the peer, which reads them."""
    shared: dict[str, Any] = {
        "config": {**setting.shape, "bias": BIAS},
        "dtype": args.dtype,
        "threads": args.threads,
        "folder": folder,
        "betas": BETAS,
        "weight_decay": WEIGHT_DECAY,
    }
    pin(args.threads)
    sides = {"subgpt": Process(Job("subgpt", **shared), environment(args.threads))}
    if torch:
        kind = PEERS[args.peer]
        job = Job("torch", compiled=kind.compiled, fused=kind.fused, **shared)
        sides["torch"] = Process(job, environment(args.threads, kind.preload))
    return sides


def warm_up(sides: dict[str, Process], count: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Make the first steps; give the seconds of each side's very first, and the losses of all."""
    replies = {name: side.turn("steps", first=0, count=count) for name, side in sides.items()}
    first = {name: reply["seconds"][0] for name, reply in replies.items()}
    return first, {name: reply["losses"] for name, reply in replies.items()}


def check(losses: dict[str, list[float]], tolerance: float) -> None:
    if "torch" not in losses:
        return
    for step, (ours, theirs) in enumerate(zip(losses["subgpt"], losses["torch"], strict=True)):
        if not abs(ours - theirs) <= tolerance * theirs:
            raise SystemExit(f"step {step}: the losses differ by more than {tolerance}: {ours} and {theirs}")


def race(sides: dict[str, Process], args: argparse.Namespace, turn: int) -> list[dict[str, Any]]:
    """Time pairs until `--steps` of them were quiet, or as many were noisy after patience was at its end."""
    rounds: list[dict[str, Any]] = []
    patience = args.patience if args.clock == "wall" else 0
    while sum(pair["counts"] for pair in rounds) < args.steps and len(rounds) < 10 * args.steps:
        if patience <= 0 and len(rounds) >= args.steps:
            break
        patience -= quiet.wait(patience)
        rounds.append(timed(sides, args.warmup + len(rounds) % args.steps * turn, turn, args.clock))
    return rounds


def timed(sides: dict[str, Process], first: int, turn: int, clock: str) -> dict[str, Any]:
    """Give each side a turn: mean seconds of a step, and what other programs took of the cores meanwhile."""
    result: dict[str, Any] = {"others": {}}
    for name, side in sides.items():
        reply = side.turn("steps", first=first, count=turn)
        result[name] = statistics.fmean(reply["seconds" if clock == "wall" else "cpu"])
        result["others"][name] = round(side.others, 3)
    result["counts"] = clock == "cpu" or max(result["others"].values()) < quiet.NOISY
    return result


def summary(
    rounds: list[dict[str, Any]],
    first: dict[str, float],
    peaks: dict[str, int],
    facts: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Give medians over the pairs that count; where there is none, over all, and no ratio."""
    calm = [pair for pair in rounds if pair["counts"]]
    counted = calm or rounds
    ratios = [pair["torch"] / pair["subgpt"] for pair in calm] if "torch" in facts else []
    return {
        "counted_pairs": len(calm),
        "median_seconds": {name: statistics.median(pair[name] for pair in counted) for name in facts},
        "fastest_seconds": {name: min(pair[name] for pair in counted) for name in facts},
        "first_seconds": first,
        "peak_bytes": peaks,
        "ratio": statistics.median(ratios) if ratios else None,
    }


def show(args: argparse.Namespace, setting: Setting, result: dict[str, Any]) -> None:
    print(f"setting {args.setting}: {setting}; {result['params']:,} parameters, {args.dtype}")
    print(f"threads: {args.threads}, on {result['cpu']}, {result['isa']}, PyTorch {args.peer}")
    print("side     ms/step  fastest  GFLOP/s  first step  peak memory  before the model")
    for name, seconds in result["median_seconds"].items():
        before = result["peer"]["before"] if name == "torch" else result["before"]
        print(
            f"{name:6} {seconds * 1e3:9.1f} {result['fastest_seconds'][name] * 1e3:8.1f} "
            f"{result['gflop'] / seconds:8.0f} {result['first_seconds'][name] * 1e3:8.0f} ms "
            f"{result['peak_bytes'][name] / 2**20:8.0f} MiB {before / 2**20:13.0f} MiB"
        )
    if result["ratio"]:
        print(f"ratio {result['ratio']:.2f} x, median of pairs")
    counted, pairs = result["counted_pairs"], len(result["rounds"])
    if args.clock == "cpu":
        print("processor time of one thread")
    elif counted:
        print(f"{counted} of {pairs} pairs of turns were quiet and count")
    else:
        print(f"THE MACHINE WAS BUSY in each of {pairs} pairs: these figures are no comparison; run again")


if __name__ == "__main__":
    main()
