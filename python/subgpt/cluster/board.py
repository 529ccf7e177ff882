"""What tasks on a cluster and the process that began them say to each other: how far, and when to stop."""

from __future__ import annotations

import time
from typing import Any

from subgpt.cluster.extra import need_ray

_SECONDS = 0.5


class Board:
    """Lives in a process of its own beside the one that began the tasks, and ends with that."""

    def __init__(self) -> None:
        self.stopped = False
        self.amounts: dict[int, int] = {}

    def begin(self, key: int) -> bool:
        """Hear that a task begins, perhaps for the second time; tell whether it shall."""
        if not self.stopped:
            self.amounts.setdefault(key, 0)
        return not self.stopped

    def tell(self, key: int, amount: int) -> bool:
        """Hear how much of a task is done; tell whether it shall stop."""
        self.amounts[key] = max(amount, self.amounts.get(key, 0))
        return self.stopped

    def seen(self) -> dict[int, int]:
        """Give the tasks that ever began, and the most that was done of each."""
        return self.amounts

    def stop(self) -> dict[int, int]:
        """Ask all to stop; from now on none begins. Gives what `seen` does."""
        self.stopped = True
        return self.amounts


class Link:
    """A task's end: it speaks with the board seldom enough that this costs nothing."""

    def __init__(self, board: Any, key: int) -> None:
        self._board = board
        self._key = key
        self._amount = 0
        self._told = time.monotonic()

    def begin(self) -> bool:
        """Say that the task begins; False: it shall not."""
        return bool(self._ask(self._board.begin.remote(self._key)))

    def tell(self, amount: int) -> bool:
        """Say that `amount` more is done; True: the task shall stop."""
        self._amount += amount
        if time.monotonic() - self._told < _SECONDS:
            return False
        return self.flush()

    def flush(self) -> bool:
        """Say at once what is done; True: the task shall stop."""
        self._told = time.monotonic()
        return bool(self._ask(self._board.tell.remote(self._key, self._amount)))

    @staticmethod
    def _ask(answer: Any) -> Any:
        return need_ray().get(answer)
