"""Functions that run on the machines of a cluster, are told to stop, and begin again where their machine is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.cluster.board import Board, Link
from subgpt.errors import first_line

if TYPE_CHECKING:
    from subgpt.cluster.connection import Cluster

RETRIES = 3
"""So often a task is begun again whose process or machine was lost."""


class LostError(Exception):
    """The process or machine of a task was lost, and lost again each time it was begun anew."""


class NotBegunError(Exception):
    """A task was not begun, since all were asked to stop."""


class Tasks:
    """Use as a context: what still runs at its end is killed.

    threads: of each task, which has as many processors to itself. alone: a process does one task and ends.
    """

    def __init__(self, cluster: Cluster, threads: int, *, alone: bool = False) -> None:
        self.asked = False
        self._ray = ray = cluster.ray
        self._threads = threads
        options = {"max_calls": 1} if alone else {}
        self._run = ray.remote(num_cpus=threads, max_retries=RETRIES, **options)(_run)
        self._running: dict[Any, int] = {}
        self._board = _begin_board(ray)

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._running:
            self._ray.cancel(task, force=True)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=10)
        self._ray.kill(self._board)

    def __len__(self) -> int:
        return len(self._running)

    def share(self, value: Any) -> Any:
        """Bring a value to the cluster once; what comes back stands for it among the arguments of `start`."""
        return self._ray.put(value)

    def start(self, key: int, function: Callable[..., None], *arguments: Any) -> None:
        """Have `function(link, *arguments)` run in the main thread of a process, as soon as there is room."""
        task = self._run.remote(self._board, key, self._threads, str(Path.cwd()), function, *arguments)
        self._running[task] = key

    def ended(self, seconds: float = 0.0) -> list[tuple[int, Exception | None]]:
        """Give the tasks that ended since, or wait for the first that does; each with its error.

        That is what the function raised, LostError or NotBegunError.
        """
        if not self._running:
            return []
        tasks = list(self._running)
        self._ray.wait(tasks, num_returns=1, timeout=seconds)
        done, _ = self._ray.wait(tasks, num_returns=len(tasks), timeout=0)
        return [(self._running.pop(task), self._error(task)) for task in done]

    def seen(self) -> dict[int, int]:
        """Give how much was done of each task that ever began."""
        seen: dict[int, int] = self._ray.get(self._board.seen.remote())
        return seen

    def stop(self) -> None:
        """Ask those that have begun to end, and take back the others; asked again, it does nothing."""
        if self.asked:
            return
        self.asked = True
        begun = self._ray.get(self._board.stop.remote())
        for task, key in self._running.items():
            if key not in begun:
                self._ray.cancel(task)

    def _error(self, task: Any) -> Exception | None:
        errors = self._ray.exceptions
        try:
            self._ray.get(task)
        except errors.TaskCancelledError:
            return NotBegunError()
        except errors.RayTaskError as error:
            if isinstance(error.cause, errors.TaskCancelledError | KeyboardInterrupt):
                return NotBegunError()
            return error.cause if isinstance(error.cause, Exception) else error
        except errors.RayError as error:
            return LostError(f"its process was lost {RETRIES + 1} times; Ray says: {first_line(error)}")
        return None


def _begin_board(ray: Any) -> Any:
    """Begin the board on this machine, so that it is not lost with another one, and wait until it is there.

    A machine that Ray begins it by way of may be lost meanwhile; then it is begun again.
    """
    there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    here = there(ray.get_runtime_context().get_node_id(), soft=False)
    for left in reversed(range(RETRIES + 1)):
        board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        try:
            ray.get(board.seen.remote())
            break
        except ray.exceptions.RayActorError:
            if not left:
                raise
    return board


def _run(
    board: Any, key: int, threads: int, folder: str, function: Callable[..., None], *arguments: Any
) -> None:
    """Run on another machine what `Tasks.start` was given, in the same directory if there is one."""
    link = Link(board, key)
    if not link.begin():
        raise NotBegunError
    _core.set_num_threads(threads)
    before = Path.cwd()
    if Path(folder).is_dir():
        os.chdir(folder)
    try:
        function(link, *arguments)
    finally:
        os.chdir(before)
