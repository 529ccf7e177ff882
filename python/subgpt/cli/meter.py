"""How far a long piece of work is: a bar with the time left in a terminal, now and then a line in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from subgpt.cli.terminal import err, is_watched, note
from subgpt.cli.volume import is_quiet
from subgpt.units import about

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 10.0


def in_full(amount: int) -> str:
    """Write a number with its thousands apart."""
    return f"{amount:,}"


class Meter(Protocol):
    """Shows progress."""

    def __call__(
        self, what: str, done: int, total: int | None, write: Callable[[int], str] = in_full
    ) -> None:
        """Show that `done` of `total` (None or 0: nobody knows) of `what` is done; `write` writes amounts."""


@contextmanager
def metering() -> Iterator[Meter]:
    """Give the meter for where standard error goes, and take it down however the work ends."""
    if not is_watched() or is_quiet():
        yield _Lines()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[amount]}"),
        TextColumn("[dim]left[/dim]"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err(), transient=True) as progress:
        yield _Bar(progress)


class _Bar:
    """One bar at a time: where something else begins, its bar takes the place of the last one."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(
        self, what: str, done: int, total: int | None, write: Callable[[int], str] = in_full
    ) -> None:
        if what not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, visible=False)
            self._tasks[what] = self._progress.add_task(what, total=None, amount="")
        amount = _amount(done, total, write)
        self._progress.update(self._tasks[what], completed=done, total=total or None, amount=amount)


class _Lines:
    """Plain lines; none for work that is soon done."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._begun: dict[str, tuple[float, int]] = {}  # when each thing began, and how much was done then

    def __call__(
        self, what: str, done: int, total: int | None, write: Callable[[int], str] = in_full
    ) -> None:
        now = time.monotonic()
        begin, before = self._begun.setdefault(what, (now, done))
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            left = ""
            if total and done > before:
                left = f", about {about((now - begin) * (total - done) / (done - before))} left"
            note(f"{what}: {_amount(done, total, write)}{left}", style="")


def _amount(done: int, total: int | None, write: Callable[[int], str]) -> str:
    return f"{write(done)} of {write(total)}" if total else write(done)
