"""Kill a run at random instants, hundreds of times, and see whether it ever loses or changes anything.

A tiny model with dropout, validation, its best weights and rollbacks is trained; at a random time after its start the
process gets SIGKILL, its directory is moved, and it is resumed with another number of threads. After each death every
published checkpoint is read and its sums are checked. When a run comes to its end, its losses and weights are compared
to those of a run that nobody killed, bit for bit; then the next begins, until there were enough deaths.

    python benches/reliability/kill.py --kills 300
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from subgpt import CheckpointError
from subgpt.checkpoint.checkpoints import list_best, list_checkpoints, newest_checkpoint, verify

PROGRAM = """
import sys, subgpt
folder, steps, seed, resume = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"
texts = [f"{'so much depends upon a red wheel barrow ' * 3}{n}\\n" for n in range(20)]
tokenizer = subgpt.Tokenizer.train(iter(texts), level="char")
shape = dict(block_size=16, n_layer=2, n_head=2, n_embd=32, dropout=0.1)
model = subgpt.GPT(subgpt.GPTConfig(vocab_size=tokenizer.vocab_size, **shape), seed=seed)

from subgpt.training.objective import NEXT_TOKEN, Loss, NextToken

class Spike(NextToken):
    # The objective of pretraining, but for two batches from which nobody can learn.
    def backward(self, model, batches):
        loss = NEXT_TOKEN.backward(model, batches)
        bad = int(batches[0][0].sum()) in BAD
        return Loss(float("nan"), loss.targets) if bad else loss

class Said(subgpt.Callback):
    def on_start(self, start):
        print("started", flush=True)

import dataclasses
import importlib
verb = importlib.import_module("subgpt.training.pretrain")
make = verb.text_data
def text_data(*given):
    data = make(*given)
    BAD.update(int(data.loader.batch(number)[0].sum()) for number in (steps // 3, 2 * steps // 3))
    return dataclasses.replace(data, objective=Spike())
BAD = set()
verb.text_data = text_data
config = subgpt.TrainConfig(
    max_steps=steps, batch_size=4, eval_steps=4, save_steps=3, learning_rate=1e-2, on_spike="rollback",
    max_rollbacks=50, load_best_model_at_end=True, seed=3,
)
subgpt.pretrain(model, tokenizer, iter(texts), config, output_dir=folder, resume=resume, callbacks=[Said()])
"""


@dataclass
class Report:
    """What came of it. deaths: how many checkpoints there were at each."""

    kills: int = 0
    lives: int = 0
    runs: int = 0
    differences: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)


def live(folder: Path, steps: int, seed: int, threads: int) -> subprocess.Popen[str]:
    """Start a run, or go on with it; it says "started" when its first step is about to be made."""
    resume = "resume" if (folder / "training").is_dir() else "fresh"
    command = [sys.executable, "-c", PROGRAM, str(folder), str(steps), str(seed), resume]
    environment = {**os.environ, "SUBGPT_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def whole(folder: Path, steps: int, seed: int) -> float:
    """Make a run that nobody kills; gives the seconds from its first step to its end."""
    process = live(folder, steps, seed, 1)
    assert process.stdout is not None
    process.stdout.readline()
    begin = time.monotonic()
    _, said = process.communicate(timeout=300)
    if process.returncode:
        raise SystemExit(said)
    return time.monotonic() - begin


def survive(place: Path, *, kills: int, seed: int, steps: int) -> Report:
    """Kill and resume until there were `kills` deaths and the last run came to its end."""
    draw, report = random.Random(seed), Report()
    expected = place / "whole"
    most = whole(expected, steps, seed)
    while report.kills < kills:
        folder, number = place / "run-0", 0
        shutil.rmtree(folder, ignore_errors=True)
        while True:
            report.lives += 1
            process = live(folder, steps, seed, draw.choice((1, 2, 3)))
            if report.kills < kills and fell(process, draw.uniform(0, most) ** 2 / most):
                report.kills += 1
                examine(folder, report)
                if report.kills % 20 == 0:
                    print(
                        f"{report.kills} kills, {report.runs} runs came to their end",
                        file=sys.stderr,
                        flush=True,
                    )
                moved, number = place / f"run-{number + 1}", number + 1
                if folder.exists():
                    folder.rename(moved)
                folder = moved
                continue
            _, said = process.communicate(timeout=300)
            if process.returncode:
                report.differences.append(said.strip().splitlines()[-1])
            else:
                report.differences += compare(expected, folder)
            break
        report.runs += 1
        shutil.rmtree(folder, ignore_errors=True)
    return report


def fell(process: subprocess.Popen[str], after: float) -> bool:
    """Kill the process that long after its first step; tell whether it was still alive."""
    assert process.stdout is not None
    process.stdout.readline()
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    return False


def examine(folder: Path, report: Report) -> None:
    """Read all that has a name; nothing may be half."""
    checkpoints = folder / "training" / "checkpoints"
    found = [*list_checkpoints(checkpoints), *list_best(checkpoints)]
    report.deaths[f"{len(list_checkpoints(checkpoints))} checkpoints"] += 1
    if list(checkpoints.glob(".*")):
        report.deaths["in the middle of a write"] += 1
    try:
        for path in found:
            verify(path)
        newest_checkpoint(checkpoints, report.unreadable.append)
    except CheckpointError as error:
        report.unreadable.append(str(error))


def compare(one: Path, other: Path) -> list[str]:
    """Name the files that differ: weights in any bit, metrics in anything but times."""
    pairs = {
        "metrics.jsonl": [course(folder) for folder in (one, other)],
        "model.safetensors": [(folder / "model.safetensors").read_bytes() for folder in (one, other)],
    }
    return [name for name, (a, b) in pairs.items() if a != b]


def course(folder: Path) -> list[dict[str, object]]:
    """Read metrics.jsonl without what is a time."""
    lines = (folder / "training" / "metrics.jsonl").read_text().splitlines()
    times = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in lines]


def as_json(report: Report) -> str:
    """Write a report for `--json`."""
    return json.dumps({**vars(report), "deaths": dict(report.deaths)}, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--steps", type=int, default=200, help="updates of each run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        report = survive(Path(folder), kills=arguments.kills, seed=arguments.seed, steps=arguments.steps)
    print(f"{report.kills} kills, {report.runs} runs, {time.monotonic() - begin:.0f} s")
    for what, count in sorted(report.deaths.items()):
        print(f"  died with {what}: {count}" if "checkpoints" in what else f"  {what}: {count}")
    for name, found in (("differences", report.differences), ("unreadable", report.unreadable)):
        print(f"{name}: {len(found)}", *sorted(set(found)), sep="\n  ")
    if arguments.json:
        arguments.json.write_text(as_json(report), encoding="utf-8")
    raise SystemExit(bool(report.differences or report.unreadable))


if __name__ == "__main__":
    main()
