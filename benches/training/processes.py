"""Both sides as processes that take turns.

The one that waits is stopped (SIGSTOP), so that threads it left spinning take no core from the other, and each
side may spin as suits it best.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quiet import Watch
from sides import Job

_TCMALLOC = Path("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4")
_TUNING = ("LD_PRELOAD", "OMP_", "KMP_", "GOMP_", "MKL_", "THP_MEM_ALLOC_ENABLE", "TORCH", "DNNL_", "ONEDNN_")


@dataclass(frozen=True)
class PeerKind:
    """How PyTorch runs: compiled or not, torch's own choice of AdamW or the fused one, tuned environment or not."""

    compiled: bool = False
    fused: bool = False
    preload: bool = False


PEERS = {
    "eager": PeerKind(),
    "compile": PeerKind(compiled=True),
    "tuned": PeerKind(fused=True, preload=True),
    "tuned-compile": PeerKind(compiled=True, fused=True, preload=True),
}


def environment(threads: int, tuned: bool = False) -> dict[str, str]:
    """Give this process's environment without anything that tunes PyTorch, or with what tunes it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_TUNING)}
    clean["OMP_NUM_THREADS"] = str(threads)
    if not tuned:
        return clean
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    for path, remedy in (
        (_TCMALLOC, "apt install libtcmalloc-minimal4"),
        (openmp, "pip install intel-openmp"),
    ):
        if not path.exists():
            raise SystemExit(f"the tuned peer preloads {path}, which is not there; {remedy}")
    return {
        **clean,
        "LD_PRELOAD": f"{_TCMALLOC}:{openmp}",
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
    }


def pin(threads: int) -> None:
    """Keep this process, and those it starts from now on, on the first `threads` of its cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


class Process:
    """A worker, running only during its turns."""

    def __init__(self, job: Job, environment: dict[str, str]):
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(job.to_dict())]
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.side = job.side
        self.others = 0.0
        self.facts = self._reply()
        missing = [
            p for p in environment.get("LD_PRELOAD", "").split(":") if p not in self.facts["preloaded"]
        ]
        if "LD_PRELOAD" in environment and missing:
            raise SystemExit(f"the peer runs without {', '.join(missing)}, though it was to be preloaded")
        self.child.send_signal(signal.SIGSTOP)

    def turn(self, do: str, **order: Any) -> dict[str, Any]:
        """Let the worker run until it has answered; `others` is then the share of the cores that others took."""
        self.child.send_signal(signal.SIGCONT)
        watch = Watch(self.child.pid)
        assert self.child.stdin is not None
        print(json.dumps({"do": do, **order}), file=self.child.stdin, flush=True)
        reply = self._reply()
        self.others = watch.others()
        self.child.send_signal(signal.SIGSTOP)
        return reply

    def close(self) -> None:
        self.child.kill()
        self.child.wait()

    def _reply(self) -> dict[str, Any]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        reply = json.loads(line) if line else {"error": f"ended with status {self.child.wait()}"}
        if "error" in reply:
            self.close()
            raise SystemExit(f"the {self.side} side failed: {reply['error']}")
        return reply
