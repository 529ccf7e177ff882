"""Watching a run in a notebook: one output that is drawn anew, so that what a notebook keeps is the end of the story.

A bar of text would leave every one of its states in the file, and tqdm's own needs ipywidgets, which a stored notebook
does not show.
"""

import sys
import time
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

from subgpt.training.callbacks import LogLines, StepEvent, describe_step

if TYPE_CHECKING:
    from subgpt.training.run import Run

EVERY = 0.25
"""Seconds between drawings at least; the eye wants no more, and the browser gets a message each time."""


def in_notebook() -> bool:
    """Tell whether this is the kernel of a notebook, whose outputs can be drawn anew."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookView(LogLines):
    """A bar with loss, speed and the time left, and what was said below it; when the run ends, only the latter."""

    def __init__(self) -> None:
        super().__init__()
        self._said: list[str] = []
        self._at: StepEvent | None = None
        self._handle: Any = None
        self._drawn = float("-inf")

    def on_step(self, event: StepEvent) -> None:
        """Move the bar, now and then."""
        self._first = self._first or event
        self._at = event
        if time.monotonic() - self._drawn >= EVERY:
            self._draw()

    def on_end(self, run: "Run") -> None:
        """Take the bar away and sum up."""
        self._at = None
        super().on_end(run)

    def say(self, text: str) -> None:
        """Put a line below the bar."""
        self._said.append(text)
        self._draw()

    def _draw(self) -> None:
        lines = "\n".join(self._said)
        plain, html = lines, f'<pre style="font-family: monospace; line-height: 1.3">{escape(lines)}</pre>'
        if self._at is not None:
            at, now = self._at, self._now(self._at)
            plain = f"{now}\n{lines}"
            html = f'<progress max="{at.max_steps}" value="{at.step}"></progress> {escape(now)}{html}'
        bundle = {"text/plain": plain, "text/html": html}
        if self._handle is None:
            self._handle = import_module("IPython.display").display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._drawn = time.monotonic()

    def _now(self, at: StepEvent) -> str:
        return f"step {at.step:,}/{at.max_steps:,}  {describe_step(at)}{self._left(at)}"
