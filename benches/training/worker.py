"""One side of a comparison in a process of its own: JSON lines in, JSON lines out, arrays in files.

Started by `processes.py`, not by hand. A process for each side keeps its memory, its allocator and its OpenMP
apart, and lets the other side be stopped while this one is timed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sides import Job, Side, Subgpt, Torch

_PR_SET_PDEATHSIG = 1
_RESET_PEAK = "5"  # proc_pid_clear_refs(5)
_EVALUATED_AT_ONCE = 64


def main() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like a reply

    def reply(**values: Any) -> None:
        print(json.dumps(values), file=replies, flush=True)

    try:
        job = Job(**json.loads(sys.argv[1]))
        folder = Path(job.folder)
        if job.side == "torch":
            import torch

            version = str(torch.__version__)
        else:
            import subgpt

            version = subgpt.__version__
        before = memory("VmRSS")
        side = Torch(job) if job.side == "torch" else ready_subgpt(job, folder)
        reset_peak()
        reply(version=version, params=side.params, before=before, preloaded=preloaded())
        for line in sys.stdin:
            reply(**answer(side, folder, json.loads(line)))
    except Exception as error:
        reply(error=f"{type(error).__name__}: {error}")
        raise


def ready_subgpt(job: Job, folder: Path) -> Subgpt:
    side = Subgpt(job)
    if not job.train:
        side.save(folder)
    return side


def answer(side: Side, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    if order["do"] == "steps":
        return steps(side, folder, order["first"], order["count"])
    if order["do"] == "evaluate":
        return {"loss": evaluate(side, folder)}
    return {"peak": memory("VmHWM")}


def steps(side: Side, folder: Path, first: int, count: int) -> dict[str, Any]:
    """Train on batches `first` to `first + count`; reading them from the file is not timed."""
    part = slice(first, first + count)
    ids, targets, rates = (
        np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[part]) for name in ("ids", "targets", "rates")
    )
    losses, seconds, cpu = [], [], []
    for x, y, rate in zip(ids, targets, rates, strict=True):
        begin, work = time.perf_counter(), time.process_time()
        losses.append(side.step(x, y, float(rate)))
        seconds.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - work)
    return {"losses": losses, "seconds": seconds, "cpu": cpu}


def evaluate(side: Side, folder: Path) -> float:
    """Give the mean loss over all held-out windows."""
    ids, targets = (np.load(folder / f"held_out_{name}.npy") for name in ("ids", "targets"))
    starts = range(0, len(ids), _EVALUATED_AT_ONCE)
    parts = [slice(start, start + _EVALUATED_AT_ONCE) for start in starts]
    return sum(len(ids[part]) * side.loss(ids[part], targets[part]) for part in parts) / len(ids)


def memory(field: str) -> int:
    """Give a field of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def reset_peak() -> None:
    """Forget what loading the weights took, where the kernel lets a process do so."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    except OSError as error:
        print(f"peak memory includes loading the weights ({error})", file=sys.stderr)


def preloaded() -> list[str]:
    """Give the libraries of LD_PRELOAD that really are in this process."""
    maps = Path("/proc/self/maps").read_text()
    wanted = [path for path in os.environ.get("LD_PRELOAD", "").split(":") if path]
    return [path for path in wanted if str(Path(path).resolve()) in maps]


if __name__ == "__main__":
    main()
