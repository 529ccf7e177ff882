"""How much of the machine other programs take, and waiting until they take little.

A step of PyTorch suffers far more from company than one of ours: OpenMP hands each thread a fixed share of the
work and then spins until the slowest is done, so one thread without a core delays all. On a shared machine two
compilers beside the bench make the ratio five or ten times too good. So only what was timed on a quiet machine
counts.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

NOISY = 0.05  # of all cores, taken by other programs
_SAMPLE = 0.2  # seconds
_TICK = os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """Give the time all cores have worked since the machine started, for whomever, and what a host took."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICK


def own_seconds(pid: int) -> float:
    """Give the time the threads of process `pid` have worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


class Watch:
    """Measures the share of all cores that programs other than process `pid` take from now on."""

    def __init__(self, pid: int):
        self.pid = pid
        self.begin, self.busy, self.own = time.monotonic(), busy_seconds(), own_seconds(pid)

    def others(self) -> float:
        work = (busy_seconds() - self.busy) - (own_seconds(self.pid) - self.own)
        return max(0.0, work) / ((time.monotonic() - self.begin) * (os.cpu_count() or 1))


def wait(seconds: float) -> float:
    """Sleep until two samples running found the machine quiet, at most `seconds`; give the seconds it took."""
    begin = time.monotonic()
    calm = 0
    while calm < 2 and time.monotonic() - begin < seconds:
        watch = Watch(os.getpid())
        time.sleep(_SAMPLE)
        calm = calm + 1 if watch.others() < NOISY else 0
    return time.monotonic() - begin
