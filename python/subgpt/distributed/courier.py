"""Sends buckets while the backward pass computes the next: a thread, and two queues."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

from subgpt.distributed.group import F32

Work: TypeAlias = Callable[[int, F32], F32]


class Courier:
    """Does `work` on what it is given, in that order, in a thread of its own, one thing at a time."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._given: SimpleQueue[tuple[int, F32] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, F32] | BaseException] = SimpleQueue()
        self._open = 0
        self._thread = threading.Thread(target=self._run, name="subgpt-courier", daemon=True)
        self._thread.start()

    def take(self, number: int, gradients: F32) -> None:
        """Give it a bucket."""
        self._open += 1
        self._given.put((number, gradients))

    def finish(self) -> list[tuple[int, F32]]:
        """Wait for all that it was given; raise what went wrong."""
        results = []
        while self._open:
            result = self._done.get()
            self._open -= 1
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        return results

    def close(self) -> None:
        """End the thread, once it is done with what it has."""
        self._given.put(None)

    def _run(self) -> None:
        while (entry := self._given.get()) is not None:
            number, gradients = entry
            try:
                self._done.put((number, self._work(number, gradients)))
            except BaseException as error:
                self._done.put(error)
