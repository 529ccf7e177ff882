"""Work off the event loop, one piece at a time for each view; and what a visitor is told when it fails."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from nicegui import background_tasks, ui

from subgpt.errors import InternalError, SubgptError

_LONG = 0.3
"""Seconds of work after which a visitor should see that there is some."""
_LOG = logging.getLogger("subgpt.playground")


def told(error: Exception) -> str:
    """Say an error to a visitor: subgpt's own as they are, of others the kind alone.

    >>> from subgpt.errors import ConfigError
    >>> told(ConfigError("GenerationConfig: top_p = 2.0: input should be less than or equal to 1"))
    'top_p = 2.0: input should be less than or equal to 1'
    >>> told(KeyError("secret"))
    'That did not work (KeyError). The log of the server has more.'
    """
    if isinstance(error, SubgptError) and not isinstance(error, InternalError):
        return str(error).removeprefix("GenerationConfig: ")
    return f"That did not work ({type(error).__name__}). The log of the server has more."


class Notice:
    """A line for what went wrong, which is there only if something did."""

    def __init__(self) -> None:
        self._label = ui.label().classes("notice").props("role=alert")
        self.clear()

    def show(self, error: Exception | str) -> None:
        """Show an error; one that is not meant for visitors goes to the log in full."""
        if isinstance(error, Exception) and (
            not isinstance(error, SubgptError) or isinstance(error, InternalError)
        ):
            _LOG.error("the playground failed", exc_info=error)
        self._label.text = error if isinstance(error, str) else told(error)
        self._label.set_visibility(True)

    def clear(self) -> None:
        """Take it away."""
        self._label.set_visibility(False)


class Latest:
    """Runs `work` in a thread and gives its result to `show`; of calls that come meanwhile, only the last is run.

    A view that is redrawn with every key would fall behind by the sum of all its work otherwise. Errors go to `notice`,
    and a success clears it. places: what is shown there is marked as about to change while work takes long.
    """

    def __init__(
        self,
        work: Callable[..., Any],
        show: Callable[[Any], object],
        notice: Notice,
        *places: ui.element,
    ) -> None:
        self._work, self._show, self._notice, self._places = work, show, notice, places
        self._client = ui.context.client
        self._next: tuple[Any, ...] | None = None
        self._is_running = False

    @property
    def is_behind(self) -> bool:
        """Whether what is shown now is about to be replaced."""
        return self._next is not None

    def ask(self, *arguments: Any) -> None:
        """Run the work with these arguments, now or as soon as what runs is done."""
        self._next = arguments
        if not self._is_running:
            self._is_running = True
            background_tasks.create(self._run(), name="playground")

    async def _run(self) -> None:
        try:
            while self._next is not None and not self._client.is_deleted:
                arguments, self._next = self._next, None
                try:
                    result = await self._result(arguments)
                    if not self._client.is_deleted:
                        self._notice.clear()
                        self._show(result)
                except Exception as error:  # whatever it is, the visitor is told and the page lives on
                    if not self._client.is_deleted:
                        self._notice.show(error)
        finally:
            self._is_running = False

    async def _result(self, arguments: tuple[Any, ...]) -> Any:
        task = asyncio.create_task(asyncio.to_thread(self._work, *arguments))
        done, _ = await asyncio.wait({task}, timeout=_LONG)
        if not done:
            self._mark(True)
        try:
            return await task
        finally:
            if not done:
                self._mark(False)

    def _mark(self, busy: bool) -> None:
        if not self._client.is_deleted:
            for place in self._places:
                place.props["aria-busy"] = "true" if busy else "false"
