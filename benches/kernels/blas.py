"""Matrix products beside NumPy's (OpenBLAS) and PyTorch's (MKL), float32, on every shape of the training settings.

    python benches/kernels/blas.py                     # what is installed of the two
    python benches/kernels/blas.py --rounds 25 --json blas.json

`cargo bench -p subgpt-benches --bench matmul` has the same shapes beside the `gemm` crate and the machine's peak. Here
all sides are called from Python, with arrays as they lie in memory (a transposed operand is a view), and return a new
array, so that a call costs each the same, on as many threads. They take turns, with a pause before each; a ratio is the
median over rounds of the peer's time over ours. Results are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import subgpt

# OpenBLAS reads it while NumPy is loaded, which `import subgpt` does not do.
os.environ["OPENBLAS_NUM_THREADS"] = str(subgpt.get_num_threads())

import numpy as np

from subgpt import ops

Work = Callable[[], Any]
SECONDS = 0.03
"""How long a side's turn is, at least: small products are repeated."""
QUIET = 0.25
"""Seconds before a turn: threads of OpenMP wait for more work awake, by 0.2 s, and would take the other side's time."""


def cases() -> Iterator[tuple[str, tuple[int, int, int], bool, bool]]:
    """Give a name, (m, k, n), and which operands are seen transposed."""

    def layer(
        model: str, rows: int, n_in: int, n_out: int
    ) -> Iterator[tuple[str, tuple[int, int, int], bool, bool]]:
        yield f"{model} forward", (rows, n_in, n_out), False, False
        yield f"{model} dX", (rows, n_out, n_in), False, True
        yield f"{model} dW", (n_in, rows, n_out), True, False

    yield from layer("large", 2048, 768, 3072)
    for model, rows, n in (("A", 768, 128), ("B", 4096, 384), ("C", 1024, 768)):
        for n_in, n_out in ((n, 3 * n), (n, n), (n, 4 * n), (4 * n, n)):
            yield from layer(model, rows, n_in, n_out)
    for model, n_in, n_out in (("A", 128, 65), ("B", 384, 65), ("C", 768, 50257)):
        yield f"{model} head", (256, n_in, n_out), False, True
        yield f"{model} head dX", (256, n_out, n_in), False, False
        yield f"{model} head dW", (n_out, 256, n_in), True, False


def operands(
    shape: tuple[int, int, int], a_transposed: bool, b_transposed: bool
) -> tuple[np.ndarray, np.ndarray]:
    m, k, n = shape
    rng = np.random.default_rng(0)
    a = rng.standard_normal((k, m) if a_transposed else (m, k), dtype=np.float32)
    b = rng.standard_normal((n, k) if b_transposed else (k, n), dtype=np.float32)
    return (a.T if a_transposed else a), (b.T if b_transposed else b)


def sides(a: np.ndarray, b: np.ndarray) -> dict[str, Work]:
    found: dict[str, Work] = {"subgpt": lambda: ops.matmul(a, b), "numpy": lambda: a @ b}
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(subgpt.get_num_threads())
        x, y = torch.from_numpy(a), torch.from_numpy(b)
        found["torch"] = lambda: torch.matmul(x, y)
    return found


def seconds(work: Work, repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - begin) / repeats


def turn(work: Work, repeats: int) -> float:
    time.sleep(QUIET)
    return seconds(work, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{subgpt.get_num_threads()} threads, {subgpt.isa()}")
    for name, shape, a_transposed, b_transposed in cases():
        a, b = operands(shape, a_transposed, b_transposed)
        contestants = sides(a, b)
        exact = a.astype(np.float64) @ b.astype(np.float64)
        for side, work in contestants.items():
            off = np.abs(np.asarray(work()) - exact).max() / np.abs(exact).max()
            assert off < 1e-4, f"{side}, {name}: off by {off}"
        repeats = {side: max(1, round(SECONDS / seconds(work, 1))) for side, work in contestants.items()}
        rounds = [
            {side: turn(work, repeats[side]) for side, work in contestants.items()}
            for _ in range(args.rounds)
        ]
        ratios = {
            side: statistics.median(times[side] / times["subgpt"] for times in rounds)
            for side in contestants
            if side != "subgpt"
        }
        ours = statistics.median(times["subgpt"] for times in rounds)
        rate = 2e-9 * np.prod(shape, dtype=np.float64) / ours
        print(
            f"{name:12} {' x '.join(map(str, shape)):>18} {rate:7.1f} GFLOP/s  "
            + "  ".join(f"{side} {ratio:.2f} x" for side, ratio in ratios.items()),
            flush=True,
        )
        rows.append({"name": name, "shape": shape, "gflops": rate, **ratios})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
