"""A job of the engine, shown as it is written: text, speed, and a way to stop it."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nicegui import ui

from subgpt.playground.parts import button
from subgpt.playground.working import Notice

if TYPE_CHECKING:
    from subgpt.generation.job import Job

_EVERY = 0.05
"""Seconds between two looks at what came: more often nobody sees."""


def speed_line(tokens: int, first: float | None, seconds: float, reason: str | None, cached: int) -> str:
    """Say how fast a text came. first, seconds: from asking to the first token, and to the last.

    >>> speed_line(20, 0.05, 0.5, "stop", 8)
    '20 tokens · first after 50 ms · 40 tokens/s · 8 of the prompt in the cache · ended by itself'
    >>> speed_line(0, None, 0.0, None, 0)
    'waiting …'
    """
    if first is None:
        return "waiting …" if reason is None else "nothing came: the text was at its end"
    parts = [f"{tokens:,} token{'' if tokens == 1 else 's'}", f"first after {_milliseconds(first)}"]
    if tokens > 1 and seconds > 0:
        parts.append(f"{tokens / seconds:,.0f} tokens/s")
    if cached:
        parts.append(f"{cached:,} of the prompt in the cache")
    ends = {"stop": "ended by itself", "length": "ended by its length", "cancelled": "stopped"}
    return " · ".join([*parts, *([ends[reason]] if reason in ends else [])])


class Pace:
    """When the tokens of a text came, from when it was asked for."""

    def __init__(self) -> None:
        self._begin = self._last = time.perf_counter()
        self._first: float | None = None
        self._tokens = 0

    def count(self, tokens: int) -> float:
        """Note that so many tokens have come, and tell the time."""
        self._last = time.perf_counter()
        if tokens and self._first is None:
            self._first = self._last
        self._tokens += tokens
        return self._last

    def line(self, reason: str | None, cached: int) -> str:
        """Say it in a line."""
        if self._first is None:
            return speed_line(0, None, 0.0, reason, cached)
        first, last = self._first - self._begin, self._last - self._begin
        return speed_line(self._tokens, first, last, reason, cached)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


class Writer:
    """A pair of buttons, one to run and one to stop, at the same place, and the line with the speed.

    One text at a time; a visitor who leaves stops it.
    """

    def __init__(self, label: str, start: Callable[[], object], notice: Notice) -> None:
        self.is_running = False
        self._notice = notice
        self._client = ui.context.client
        self._job: Job | None = None
        self._is_stopped = False
        self._run = button(label, start, kind="primary", icon="run")
        self._run.props["data-run"] = ""
        self._stop = button("Stop", self.stop, icon="stop", hint="Stop (Escape)")
        self._stop.props["data-stop"] = ""
        self._stop.set_visibility(False)
        self._client.on_delete(self.stop)

    def add_meter(self) -> None:
        """Put the line with the speed here."""
        self._meter = ui.label().classes("meter").props("role=status")

    def stop(self) -> None:
        """Stop what is being written; what came so far stays."""
        self._is_stopped = True
        if self._job is not None:
            self._job.cancel()

    async def write(
        self, ask: "Callable[[], Job]", show: Callable[[str], object], note: str = ""
    ) -> "tuple[str, Job] | None":
        """Show the text of the job that `ask` gives while it comes; give both, or None where there is no job.

        `ask` runs in a thread: to look at a long prompt or a grammar takes a moment. An error goes to the notice. note:
        ends the last line.
        """
        self.is_running, self._is_stopped = True, False
        self._notice.clear()
        self._meter.text = speed_line(0, None, 0.0, None, 0)
        self._turn(True)
        pace = Pace()
        try:
            self._job = await asyncio.to_thread(ask)
            text = await self._follow(self._job, pace, show, note)
            return text, self._job
        except Exception as error:  # whatever it is, the visitor is told and the page lives on
            if not self._client.is_deleted:
                self._notice.show(error)
            return None
        finally:
            self.is_running, self._job = False, None
            if not self._client.is_deleted:
                self._turn(False)

    async def _follow(self, job: "Job", pace: Pace, show: Callable[[str], object], note: str) -> str:
        """Show a text while it comes; what is still on its way when it is stopped is not waited for."""
        if self._is_stopped or self._client.is_deleted:
            job.cancel()
        whole, shown = "", 0.0
        try:
            async for piece in job:
                if self._is_stopped:
                    break
                now = pace.count(len(piece.ids))
                whole += piece.text
                if now - shown >= _EVERY:
                    shown = now
                    show(whole)
                    self._meter.text = pace.line(None, job.cached_tokens)
        finally:  # what came before an error stays on show
            if not self._client.is_deleted:
                show(whole)
                reason = "cancelled" if self._is_stopped else job.finish_reason
                line = pace.line(reason, job.cached_tokens)
                self._meter.text = f"{line} · {note}" if note else line
        return whole

    def clear(self) -> None:
        """Forget the last speed."""
        self._meter.text = ""

    def _turn(self, running: bool) -> None:
        """Show one of the two buttons; a keyboard that was on the other one goes on there."""
        self._run.set_visibility(not running)
        self._stop.set_visibility(running)
        there = self._stop if running else self._run
        self._client.run_javascript(f"subgptKeepFocus('{there.html_id}')")
