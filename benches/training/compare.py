"""Trains the same nanoGPT model here and in PyTorch, step by step in alternation, and prints the ratio.

    python benches/training/compare.py A          # 4 layers, 128 wide, block 64, batch 12: nanoGPT's CPU setting
    python benches/training/compare.py B --steps 10

Both start from the same weights and see the same batches; losses are compared before anything is timed. Steps
alternate, so that a noisy machine hits both; the ratio is the median over pairs. Without torch only subgpt's own
time is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

import subgpt

SETTINGS = {
    "A": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "vocab_size": 65, "batch": 12},
    "B": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "vocab_size": 65, "batch": 16},
    "C": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 256, "vocab_size": 50257, "batch": 4},
    "D": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024, "vocab_size": 50257, "batch": 1},
}
RATE = 1e-3

Batch = tuple[np.ndarray, np.ndarray]
Step = Callable[[np.ndarray, np.ndarray], float]


def ours(model: subgpt.GPT) -> Step:
    optimizer = subgpt.AdamW(model, RATE, betas=(0.9, 0.99), weight_decay=0.1)

    def step(x: np.ndarray, y: np.ndarray) -> float:
        loss = model.backward(x, y)
        model.clip_grad_norm(1.0)
        optimizer.step()
        model.zero_grad()
        return loss

    return step


def theirs(model: subgpt.GPT, threads: int, compiled: bool) -> Step | None:
    try:
        import torch
        from torch_gpt import Peer
    except ImportError as error:
        print(f"PyTorch is not here ({error}): only subgpt is timed")
        return None
    torch.set_num_threads(threads)
    peer = Peer(model)
    optimizer = peer.optimizer(RATE)
    forward = torch.compile(peer) if compiled else peer

    def step(x: np.ndarray, y: np.ndarray) -> float:
        loss = forward(torch.from_numpy(x), torch.from_numpy(y))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def batches(setting: dict[str, int], count: int) -> list[Batch]:
    rng = np.random.default_rng(1)
    shape = (count, setting["batch"], setting["block_size"])
    x = rng.integers(0, setting["vocab_size"], shape)
    return list(zip(x, rng.integers(0, setting["vocab_size"], shape), strict=True))


def timed(step: Step, batch: Batch) -> tuple[float, float]:
    begin = time.perf_counter()
    loss = step(*batch)
    return time.perf_counter() - begin, loss


def gflop(setting: dict[str, int], params: int) -> float:
    """Multiply-adds of the products of a step, as 2 operations each: 6 N P, and causal attention."""
    n = setting["batch"] * setting["block_size"]
    weights = params - setting["block_size"] * setting["n_embd"]
    attention = 6 * setting["n_layer"] * setting["block_size"] * setting["n_embd"] * n
    return (6 * n * weights + attention) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--steps", type=int, default=20, help="timed pairs of steps")
    parser.add_argument("--warmup", type=int, default=3, help="pairs before, whose losses are compared")
    parser.add_argument("--threads", type=int, default=subgpt.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer")
    args = parser.parse_args()

    setting = SETTINGS[args.setting]
    subgpt.set_num_threads(args.threads)
    shape = {k: v for k, v in setting.items() if k != "batch"}
    model = subgpt.GPT(subgpt.GPTConfig(**shape, activation="gelu_new"), seed=1)
    peer = theirs(model, args.threads, args.compile)
    mine = ours(model)
    print(
        f"setting {args.setting}: {setting}, {model.num_params():,} parameters, {args.threads} threads, {subgpt.isa()}"
    )

    work = batches(setting, args.warmup + args.steps)
    pairs = []
    for i, batch in enumerate(work):
        a, loss = timed(mine, batch)
        b, other = timed(peer, batch) if peer else (float("nan"), loss)
        if i < args.warmup:
            assert abs(loss - other) < 1e-3 * other, f"step {i}: losses differ, {loss} and {other}"
        else:
            pairs.append((a, b))
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"subgpt  {a * 1e3:9.1f} ms/step  {gflop(setting, model.num_params()) / a:6.0f} GFLOP/s")
    if peer:
        ratio = statistics.median(theirs / ours for ours, theirs in pairs)
        print(f"PyTorch {b * 1e3:9.1f} ms/step  {gflop(setting, model.num_params()) / b:6.0f} GFLOP/s")
        print(f"ratio   {ratio:9.2f} x  (median over {len(pairs)} alternating pairs)")


if __name__ == "__main__":
    main()
