"""Notices that a process is gone, and ends the others with a word about it.

MPI itself ends a job when a process dies under its `mpirun`; one whose host fell silent, or that is stopped, would be
waited for without end. So every process gives rank 0 a sign of life now and then, and rank 0 gives all the others one,
from a thread that nothing else keeps waiting.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from subgpt.distributed.group import Group

TICK = 1.0
"""Seconds between two signs of life."""


class Watch:
    """From `start` to `stop`; `lost` gets the message when somebody was silent for `timeout` seconds.

    group: with messages of its own. hint: what is to be said then, besides who.
    """

    def __init__(
        self, group: Group, timeout: float, lost: Callable[[str], None], hint: Callable[[], str]
    ) -> None:
        self._group, self._timeout, self._lost, self._hint = group, timeout, lost, hint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="subgpt-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; all have to be alive until all have called it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        group = self._group
        others = list(range(1, group.size)) if group.rank == 0 else [0]
        heard = dict.fromkeys(others, time.monotonic())
        sent: list[Any] = []
        last = time.monotonic()
        while not self._stop.wait(TICK):
            now = time.monotonic()
            if now - last > self._timeout / 2:  # this process was the one that slept
                heard = dict.fromkeys(others, now)
            last = now
            for rank in group.received():
                heard[rank] = now
            sent = [request for request in sent if not request.Test()]
            if len(sent) < 4 * len(others):  # nobody takes them any more
                sent += [group.post(rank) for rank in others]
            silent = [group.members[rank] for rank, when in heard.items() if now - when > self._timeout]
            if silent:
                who = ", ".join(map(str, silent[:4])) + (f" and {len(silent) - 4} more" if silent[4:] else "")
                self._lost(f"{who}: no sign of life for {self._timeout:g} s, so the job ends; {self._hint()}")
                return
