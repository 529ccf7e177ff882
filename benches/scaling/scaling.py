"""Measures how the cost of a training step grows: with the model, the context, the batch and the threads.

    python benches/scaling/scaling.py -o scaling                      # all four sweeps, some ten minutes
    python benches/scaling/scaling.py -o scaling --sweep context --seconds 2
    python benches/scaling/scaling.py -o scaling --png                # with pictures (pip install "subgpt[plot]")

A step is forward, backward, clipping and AdamW on random tokens. Each point trains for `--seconds`, at least
two steps after one that is not counted, and takes the fastest step, since company on a shared machine only
slows steps down. For each sweep there is a table, a CSV file in the folder of `-o`, and the exponent a of cost
per token ~ x^a fitted by least squares on logarithms, beside the exponent that the arithmetic alone predicts
over the same points:

    operations per token = 6 W + 6 L T C

W: weights that multiply (all but the positions). L layers, T context, C width: a query sees T / 2 keys on
average, in two products a layer, forward and twice backward. For threads the ideal is -1. A point whose
weights, gradients, moments and activations would take more than `--memory` of what the machine has free is left
out, and the table says so.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import subgpt

VOCAB = 8192
LEARNING_RATE = 3e-4


@dataclass(frozen=True)
class Point:
    """A model, a batch and a number of threads; `x` is what the sweep varies, None for the model's parameters."""

    n_layer: int
    n_embd: int
    block_size: int
    batch: int
    threads: int
    x: int | None = None

    @property
    def config(self) -> subgpt.GPTConfig:
        return subgpt.GPTConfig(
            vocab_size=VOCAB,
            block_size=self.block_size,
            n_layer=self.n_layer,
            n_head=max(1, self.n_embd // 64),
            n_embd=self.n_embd,
            bias=False,
        )

    @property
    def params(self) -> int:
        c = self.n_embd
        return VOCAB * c + self.block_size * c + self.n_layer * (12 * c * c + 2 * c) + c

    @property
    def flops_per_token(self) -> float:
        weights = self.params - self.block_size * self.n_embd
        return 6.0 * weights + 6.0 * self.n_layer * self.block_size * self.n_embd

    @property
    def bytes(self) -> int:
        """What a step needs: four floats a parameter, and for each token and layer about 16 floats of its width."""
        tokens = self.batch * self.block_size
        return 16 * self.params + 4 * tokens * self.n_embd * (16 * self.n_layer + 16)


@dataclass(frozen=True)
class Measured:
    """A point and how long its step took."""

    point: Point
    x: int
    seconds: float
    steps: int

    @property
    def tokens_per_second(self) -> float:
        return self.point.batch * self.point.block_size / self.seconds

    @property
    def gflops(self) -> float:
        return self.point.flops_per_token * self.tokens_per_second / 1e9


# Width and layers from one to 350 million parameters.
MODELS = [(2, 96), (4, 128), (6, 192), (6, 384), (8, 512), (10, 640), (12, 768), (16, 960), (24, 1088)]


def sweep(name: str, threads: int) -> list[Point]:
    """Give the points of a sweep; all but the first hold the model fixed."""
    if name == "model":
        return [Point(layers, width, 128, 8, threads) for layers, width in MODELS]
    if name == "context":
        return [Point(4, 256, 64 << i, max(1, 16 >> i), threads, 64 << i) for i in range(7)]
    if name == "batch":
        return [Point(4, 256, 128, batch, threads, batch) for batch in (1, 2, 4, 8, 16, 32, 64)]
    counts = sorted({1 << i for i in range(threads.bit_length())} | {threads})
    return [Point(6, 384, 256, 8, count, count) for count in counts]


def measure(point: Point, seconds: float) -> Measured:
    """Train at `point` for `seconds`."""
    subgpt.set_num_threads(point.threads)
    model = subgpt.GPT(point.config, seed=1)
    optimizer = subgpt.AdamW(model, LEARNING_RATE)
    rng = np.random.default_rng(1)
    ids, targets = rng.integers(0, VOCAB, (2, point.batch, point.block_size))
    times: list[float] = []
    while len(times) < 3 or sum(times[1:]) < seconds:
        begin = time.perf_counter()
        model.backward(ids, targets)
        model.clip_grad_norm(1.0)
        optimizer.step()
        model.zero_grad()
        times.append(time.perf_counter() - begin)
    assert model.num_params() == point.params
    return Measured(point, point.x or point.params, min(times[1:]), len(times) - 1)


def run(name: str, args: argparse.Namespace) -> Iterator[Measured]:
    """Measure a sweep's points that fit into memory, a line of the table for each."""
    print(f"\n{name}: x is {TITLES[name]}")
    print(f"{'x':>11} {'parameters':>12} {'context':>8} {'batch':>6} {'threads':>8} {'ms/step':>9} ", end="")
    print(f"{'tokens/s':>9} {'GFLOP/s':>8} {'steps':>6}")
    for point in sweep(name, args.threads):
        x = point.x or point.params
        free = available_memory()
        if point.bytes > args.memory * free:
            print(f"{x:11,} left out: about {point.bytes / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free")
            continue
        seen = measure(point, args.seconds)
        print(
            f"{x:11,} {point.params:12,} {point.block_size:8} {point.batch:6} {point.threads:8} "
            f"{seen.seconds * 1e3:9.1f} {seen.tokens_per_second:9.0f} {seen.gflops:8.0f} {seen.steps:6}",
            flush=True,
        )
        yield seen


def exponents(name: str, seen: list[Measured]) -> tuple[float, float]:
    """Give the fitted exponent of seconds per token in x, and the one of the operations per token."""
    x = [m.x for m in seen]
    predicted = [m.point.flops_per_token / (m.x if name == "threads" else 1) for m in seen]
    return slope(x, [1 / m.tokens_per_second for m in seen]), slope(x, predicted)


def slope(x: list[int], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def available_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def write_csv(path: Path, seen: list[Measured]) -> None:
    rows = [
        {
            "x": m.x,
            "parameters": m.point.params,
            "layers": m.point.n_layer,
            "width": m.point.n_embd,
            "context": m.point.block_size,
            "batch": m.point.batch,
            "threads": m.point.threads,
            "seconds": f"{m.seconds:.6g}",
            "tokens_per_second": f"{m.tokens_per_second:.6g}",
            "flops_per_token": f"{m.point.flops_per_token:.6g}",
            "gflops": f"{m.gflops:.4g}",
        }
        for m in seen
    ]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0] if rows else [])
        table.writeheader()
        table.writerows(rows)


def draw(path: Path, name: str, seen: list[Measured], fitted: float, predicted: float) -> None:
    """Draw seconds per token over x, and the line of the arithmetic through the last point."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise SystemExit('--png needs matplotlib; pip install "subgpt[plot]"') from None
    x = np.array([m.x for m in seen], dtype=float)
    cost = np.array([1e6 / m.tokens_per_second for m in seen])
    ideal = np.array([m.point.flops_per_token / (m.x if name == "threads" else 1) for m in seen])
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.loglog(x, cost, "o-", label=f"measured, exponent {fitted:.2f}")
    axes.loglog(x, ideal * cost[-1] / ideal[-1], "--", label=f"arithmetic, exponent {predicted:.2f}")
    axes.set_xlabel(TITLES[name])
    axes.set_ylabel("microseconds per token")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


TITLES = {
    "model": "the parameters of the model",
    "context": "the context in tokens",
    "batch": "the sequences in a batch",
    "threads": "the number of threads",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the CSV files")
    parser.add_argument("--sweep", choices=TITLES, action="append", help="one of them; again for more")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each point")
    parser.add_argument("--threads", type=int, default=subgpt.get_num_threads())
    parser.add_argument("--memory", type=float, default=0.7, help="share of free memory a point may take")
    parser.add_argument("--png", action="store_true", help="draw each sweep")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    print(f"subgpt {subgpt.__version__}, {subgpt.isa()}, {args.threads} threads, vocabulary {VOCAB}")
    found = {}
    for name in args.sweep or TITLES:
        seen = list(run(name, args))
        write_csv(args.output / f"{name}.csv", seen)
        if len(seen) < 2:
            continue
        fitted, predicted = exponents(name, seen)
        found[name] = {"exponent": fitted, "by_arithmetic": predicted}
        print(f"cost per token ~ x^{fitted:.2f}; the arithmetic predicts x^{predicted:.2f}")
        if args.png:
            draw(args.output / f"{name}.png", name, seen, fitted, predicted)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
