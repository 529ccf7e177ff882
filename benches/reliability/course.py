"""The course of a process's memory, threads and open files, and whether it grows."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

# What memory of the last quarter may be above that of the first: an allocator keeps what it had at the busiest instant.
LEAST_MIB, SHARE = 4.0, 0.02
# And threads and open files: clients come and go.
LEAST_COUNT = 4


@dataclass(frozen=True)
class Sample:
    """What a process has at one time."""

    seconds: float
    mib: float
    threads: int
    files: int


@dataclass
class Course:
    """Samples in their order."""

    samples: list[Sample] = field(default_factory=list)

    def quarters(self, name: str) -> list[float]:
        """Give the median of each quarter of the time."""
        values = [getattr(sample, name) for sample in self.samples]
        cuts = [len(values) * quarter // 4 for quarter in range(5)]
        return [statistics.median(values[start:end]) for start, end in pairwise(cuts)]

    def slope(self) -> float:
        """Give what memory grows by, in MiB an hour: the line through all samples."""
        times, values = [s.seconds / 3600 for s in self.samples], [s.mib for s in self.samples]
        return statistics.linear_regression(times, values).slope

    def grows(self) -> bool:
        """Tell whether the last quarter has more of anything than the first."""
        first, last = (self.quarters("mib")[i] for i in (0, -1))
        more = [
            self.quarters(name)[-1] > self.quarters(name)[0] + LEAST_COUNT for name in ("threads", "files")
        ]
        return last - first > max(LEAST_MIB, SHARE * first) or any(more)

    def show(self, name: str) -> None:
        def row(quarters: list[float], digits: int) -> str:
            return "  ".join(f"{value:8.{digits}f}" for value in quarters)

        minutes = (self.samples[-1].seconds - self.samples[0].seconds) / 60
        print(f"{name}: {len(self.samples)} samples in {minutes:.1f} minutes; medians of the four quarters")
        print(f"    resident MiB  {row(self.quarters('mib'), 1)}   slope {self.slope():+.2f} MiB an hour")
        print(f"    threads       {row(self.quarters('threads'), 0)}")
        print(f"    open files    {row(self.quarters('files'), 0)}")
        print(f"    most resident {max(sample.mib for sample in self.samples):.1f} MiB")
        print(f"    {'GROWS' if self.grows() else 'flat'}", flush=True)


class Watch:
    """Takes a sample of a process every so often, in a thread, until it is closed."""

    def __init__(self, pid: int | str, every: float = 1.0) -> None:
        self.course, self._place, self._every = Course(), Path(f"/proc/{pid}"), every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self.course.samples.append(self._sample())
            except (OSError, KeyError):  # the process is ending
                return

    def _sample(self) -> Sample:
        lines = (self._place / "status").read_text(encoding="ascii", errors="replace").splitlines()
        values = dict(line.split(":", 1) for line in lines)
        files = sum(1 for _ in (self._place / "fd").iterdir())
        mib = int(values["VmRSS"].split()[0]) / 1024
        return Sample(time.monotonic(), mib, int(values["Threads"]), files)

    def close(self) -> Course:
        self._ended.set()
        self._thread.join()
        return self.course
