"""Measures how long nanoGPT in PyTorch and subgpt take to a validation loss of 1.88 on Shakespeare's characters.

    python benches/training/time_to_loss.py corpus.txt
    python benches/training/time_to_loss.py corpus.txt --learning-rate 3e-3 --min-learning-rate 3e-4 --json loss.json

The peer is nanoGPT's configuration for a CPU, in plain PyTorch out of the box (`--peer`): 4 layers, 4 heads,
128 wide, no biases, block 64, batch 12, 2,000 steps (1.54 million characters seen), AdamW with betas (0.9,
0.99) and weight decay 0.1, clipping to 1, 100 steps of warm-up to 1e-3, then half a cosine to 1e-4. Our side
has the same unless flags say otherwise; it keeps the data budget and the block; `--same-rates` gives the peer
our learning rates too, which tells the speed from the recipe. With the same recipe both start from the same
weights, and both always see the same batches, windows drawn at random as in nanoGPT.

Each side is a process of its own on the same cores; they take turns of `--every` steps and the one that waits
is stopped. After each turn a side's loss is taken over the whole held-out tenth of the text, in windows of 64
that do not overlap; its clock counts training steps only, not this. A time is that of the first evaluation at or
below the target. The bench waits for quiet moments, `--patience` seconds in all (`quiet.py` says why). Since
every step costs the same, it also gives steps x the median step of the quiet turns: where turns were noisy, that
is the figure to take, and `ratio` in the JSON is made of it. It is null where a side had no quiet turn, 0 where we did
not come to the target, and "above" says that the peer did not.
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
from settings import BETAS, WEIGHT_DECAY
from sides import Job

import subgpt
from subgpt.training.schedule import learning_rate_at

DEFAULT_TEXT = "corpus.txt"
NANOGPT = "nanogpt-cpu"
BLOCK, BATCH = 64, 12
WARMUP = 100

Curve = list[dict[str, float]]


def main() -> None:
    args = arguments()
    text = Path(args.text)
    if not text.exists():
        raise SystemExit(f"{text} is not here; give the path of the Shakespeare text (1.1 MB)")
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not here (pip install torch): only subgpt is timed")
    with tempfile.TemporaryDirectory() as folder:
        vocab = write_data(text, Path(folder), args)
        sides = start(args, vocab, Path(folder))
        try:
            curves = race(sides, args)
        finally:
            for side in sides.values():
                side.close()
    outcomes = {name: outcome(curve, args.target) for name, curve in curves.items()}
    show(outcomes, args.target)
    if args.json:
        result = {
            **circumstances(args.threads),
            "options": vars(args),
            "curves": curves,
            "outcomes": outcomes,
            **compared(outcomes),
        }
        Path(args.json).write_text(json.dumps(result, indent=1, default=str) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", default=DEFAULT_TEXT, help="the Shakespeare text")
    parser.add_argument("--target", type=float, default=1.88, help="validation loss, nats per character")
    parser.add_argument("--steps", type=int, default=2000, help="the budget, and the end of the decay")
    parser.add_argument("--every", type=int, default=50, help="steps of a turn, then an evaluation")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--patience", type=float, default=300, help="seconds to wait for a quiet machine")
    parser.add_argument("--threads", type=int, default=subgpt.get_num_threads())
    parser.add_argument("--json", help="write everything measured into this file")
    parser.add_argument("--peer", choices=PEERS, default="eager")
    parser.add_argument(
        "--same-rates", action="store_true", help="the peer learns at our rates, not nanoGPT's"
    )
    ours = parser.add_argument_group("our recipe")
    ours.add_argument("--preset", default=NANOGPT, help="a preset of GPTConfig")
    ours.add_argument("--optimizer", default="AdamW", help="an optimizer of subgpt, by its class")
    ours.add_argument("--learning-rate", type=float, default=1e-3)
    ours.add_argument("--min-learning-rate", type=float, default=1e-4)
    ours.add_argument("--schedule", choices=["constant", "linear", "cosine"], default="cosine")
    ours.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    if not hasattr(subgpt, args.optimizer):
        parser.error(f"--optimizer {args.optimizer}: subgpt has no class of this name")
    return args


def write_data(text: Path, folder: Path, args: argparse.Namespace) -> int:
    """Write training batches for every step and the held-out windows; give the number of characters there are."""
    alphabet, ids = np.unique(np.array(list(text.read_text(encoding="utf-8"))), return_inverse=True)
    ids = ids.astype(np.int64)
    cut = len(ids) * 9 // 10
    train, held_out = ids[:cut], ids[cut:]
    starts = np.random.default_rng(args.seed).integers(0, len(train) - BLOCK, (args.steps, BATCH, 1))
    places = starts + np.arange(BLOCK)
    np.save(folder / "ids.npy", train[places])
    np.save(folder / "targets.npy", train[places + 1])
    windows = (len(held_out) - 1) // BLOCK
    np.save(folder / "held_out_ids.npy", held_out[: windows * BLOCK].reshape(windows, BLOCK))
    np.save(folder / "held_out_targets.npy", held_out[1 : windows * BLOCK + 1].reshape(windows, BLOCK))
    return len(alphabet)


def rates(peak: float, minimum: float, kind: str, steps: int) -> np.ndarray:
    schedule: dict[str, Any] = {"kind": kind, "peak": peak, "minimum": minimum, "warmup_steps": WARMUP}
    return np.array([learning_rate_at(step, decay_steps=steps, **schedule) for step in range(steps)])


def start(args: argparse.Namespace, vocab: int, folder: Path) -> dict[str, Process]:
    """Start our side and, with torch, the peer; each with a folder of its own for weights and rates."""
    shared: dict[str, Any] = {
        "threads": args.threads,
        "betas": BETAS,
        "weight_decay": WEIGHT_DECAY,
        "seed": args.seed,
    }
    shape = {"vocab_size": vocab, "block_size": BLOCK}
    ours = subgpt.GPTConfig.preset(args.preset, **shape).to_dict()
    theirs = subgpt.GPTConfig.preset(NANOGPT, **shape)
    pin(args.threads)
    our_rates = rates(args.learning_rate, args.min_learning_rate, args.schedule, args.steps)
    home = side_folder(folder, "subgpt", our_rates)
    job = Job("subgpt", ours, args.dtype, folder=home, optimizer=args.optimizer, **shared)
    sides = {"subgpt": Process(job, environment(args.threads))}
    if importlib.util.find_spec("torch") is not None:
        kind = PEERS[args.peer]
        their_rates = our_rates if args.same_rates else rates(1e-3, 1e-4, "cosine", args.steps)
        home = side_folder(folder, "torch", their_rates)
        save_weights(subgpt.GPT(theirs, seed=args.seed), Path(home))
        job = Job(
            "torch",
            theirs.to_dict(),
            "float32",
            folder=home,
            compiled=kind.compiled,
            fused=kind.fused,
            **shared,
        )
        sides["torch"] = Process(job, environment(args.threads, kind.preload))
    return sides


def side_folder(folder: Path, name: str, schedule: np.ndarray) -> str:
    """Make a side's folder: the shared data by link, its own learning rates."""
    home = folder / name
    home.mkdir()
    for path in folder.glob("*.npy"):
        (home / path.name).symlink_to(path)
    np.save(home / "rates.npy", schedule)
    return str(home)


def save_weights(model: subgpt.GPT, folder: Path) -> None:
    for name, value in model.state_dict().items():
        np.save(folder / f"{name}.npy", value)


def race(sides: dict[str, Process], args: argparse.Namespace) -> dict[str, Curve]:
    """Train both in turns until both are there or the budget is spent; give a point for each turn."""
    curves: dict[str, Curve] = {name: [] for name in sides}
    seconds = dict.fromkeys(sides, 0.0)
    patience = args.patience
    for first in range(0, args.steps, args.every):
        count = min(args.every, args.steps - first)
        for name, side in sides.items():
            if reached(curves[name], args.target):
                continue
            patience -= quiet.wait(patience)
            spent = side.turn("steps", first=first, count=count)["seconds"]
            others = side.others
            seconds[name] += sum(spent)
            point = {
                "step": first + count,
                "seconds": seconds[name],
                "step_seconds": statistics.fmean(spent),
                "others": round(others, 3),
                "loss": side.turn("evaluate")["loss"],
            }
            curves[name].append(point)
            print(
                f"{name:6} step {first + count:5} {seconds[name]:8.2f} s  validation {point['loss']:.4f}",
                end="",
            )
            print(f"  (others took {others:.0%})" if others >= quiet.NOISY else "", flush=True)
    return curves


def reached(curve: Curve, target: float) -> bool:
    return bool(curve) and curve[-1]["loss"] <= target


def outcome(curve: Curve, target: float) -> dict[str, Any]:
    """Give whether and when a side came to the target, by its clock and by the step of its quiet turns."""
    calm = [point["step_seconds"] for point in curve if point["others"] < quiet.NOISY]
    last = curve[-1]
    return {
        "reached": reached(curve, target),
        "steps": last["step"],
        "seconds": last["seconds"],
        "quiet_seconds": last["step"] * statistics.median(calm) if calm else None,
        "quiet_turns": len(calm),
        "turns": len(curve),
        "best": min(point["loss"] for point in curve),
    }


def compared(outcomes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Give the peer's time over ours by quiet turns, and whether that is the least it can be."""
    if "torch" not in outcomes:
        return {"ratio": None, "above": False}
    ours, theirs = outcomes["subgpt"], outcomes["torch"]
    if not ours["reached"]:
        return {"ratio": 0.0, "above": False}
    calm = ours["quiet_seconds"] and theirs["quiet_seconds"]
    ratio = theirs["quiet_seconds"] / ours["quiet_seconds"] if calm else None
    return {"ratio": ratio, "above": not theirs["reached"]}


def show(outcomes: dict[str, dict[str, Any]], target: float) -> None:
    for name, o in outcomes.items():
        what = f"{target} after" if o["reached"] else f"not {target} (best {o['best']:.4f}) in"
        print(f"{name:6} {what} {o['steps']} steps, {o['seconds']:.2f} s", end="")
        if o["quiet_seconds"] is not None:
            print(
                f"; {o['quiet_seconds']:.2f} s by the {o['quiet_turns']} of {o['turns']} turns that were quiet",
                end="",
            )
        print()
    if "torch" not in outcomes or not outcomes["subgpt"]["reached"]:
        return
    ours, theirs = outcomes["subgpt"], outcomes["torch"]
    found = compared(outcomes)
    sign = "above " if found["above"] else ""
    noisy = any(o["quiet_turns"] < o["turns"] for o in (ours, theirs))
    if found["ratio"]:
        print(f"ratio by quiet turns: {sign}{found['ratio']:.2f} x")
    if noisy:
        print("THE MACHINE WAS BUSY in some turns: the clock's seconds are no comparison")
    else:
        print(f"ratio by the clock: {sign}{theirs['seconds'] / ours['seconds']:.2f} x")


if __name__ == "__main__":
    main()
