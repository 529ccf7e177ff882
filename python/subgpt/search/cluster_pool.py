"""Trials as tasks of a cluster, in place of processes of this machine: begun, asked to stop, ended."""

import _thread
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType

from subgpt.checkpoint.lock import DirectoryLock
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.cluster import Cluster, Link, LostError, NotBegunError, Tasks
from subgpt.errors import CheckpointError
from subgpt.search.outcomes import FINAL
from subgpt.search.plan import SweepDirectory
from subgpt.search.worker import run_trial

_POLL = 0.5
_LOST_SECONDS = 120.0
"""So long a run directory may stay locked by a process that is lost: leases of network file systems are shorter."""


class ClusterPool:
    """What `Pool` is for processes: use as a context, what still runs at its end is killed."""

    def __init__(self, directory: SweepDirectory, cluster: Cluster, threads: int) -> None:
        self.directory = directory
        self._tasks = Tasks(cluster, threads, alone=True)

    def __enter__(self) -> "ClusterPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def asked(self) -> bool:
        """Whether they were asked to stop."""
        return self._tasks.asked

    def start(self, trial: int) -> None:
        """Begin a trial, on whichever machine has room first."""
        self._tasks.start(trial, _work, str(self.directory.path), trial)

    def stop(self) -> None:
        """Ask all to save and end, once; asked again, it does nothing."""
        self._tasks.stop()

    def ended(self) -> list[tuple[int, str]]:
        """Give the trials that ended since, each with how, should it have written no outcome; "" if it never began."""
        return [(trial, _how(error)) for trial, error in self._tasks.ended()]


def _how(error: Exception | None) -> str:
    if isinstance(error, NotBegunError):
        return ""
    if isinstance(error, LostError):
        return str(error)
    return "ended without a word" if error is None else f"{type(error).__name__}: {error}"


def _work(link: Link, sweep: str, trial: int) -> None:
    """Run a trial in the process of a task; one whose process was lost goes on from its last checkpoint."""
    directory = SweepDirectory(sweep)
    if directory.read_outcome(trial, {}).status in FINAL:
        return  # its process was lost after the last word
    with _into(directory.log(trial)), _interrupted_by(link):
        _wait_for_the_lost(RunDirectory(directory.run(trial)))
        run_trial(directory, trial)


@contextmanager
def _into(log: Path) -> Iterator[None]:
    """Write what is said to the trial's log, the last words of native code too: the process has no other task."""
    with log.open("a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        yield


@contextmanager
def _interrupted_by(link: Link) -> Iterator[None]:
    """Interrupt the main thread when the sweep asks to stop, as Ctrl-C would; also when it cannot be asked any more."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL):
            try:
                stop = link.tell(0)
            except Exception:
                stop = True
            if stop and not ended.is_set():
                _thread.interrupt_main()  # no signal: Ray's processes block it
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _wait_for_the_lost(run: RunDirectory) -> None:
    """Wait until nobody trains in a directory: a process that Ray took for lost may have some seconds left."""
    until = time.monotonic() + _LOST_SECONDS
    while run.training.is_dir() and time.monotonic() < until:
        try:
            with DirectoryLock(run.lock):
                return
        except CheckpointError as error:
            print(error, file=sys.stderr)
            time.sleep(1)
