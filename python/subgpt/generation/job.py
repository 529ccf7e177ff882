"""`Job`: one text that an engine writes, as whoever asked for it sees it."""

import asyncio
import contextlib
import os
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from subgpt.errors import InvalidValueError
from subgpt.generation.conversation import Trim
from subgpt.generation.writing import Found, Writing

if TYPE_CHECKING:
    from subgpt.generation.beginning import Beginning, Opening
    from subgpt.generation.config import GenerationConfig
    from subgpt.generation.structured import Matcher
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

Ended: TypeAlias = Literal["stop", "length", "cancelled"]


class Piece(NamedTuple):
    """What a text grew by.

    Attributes:
        text: What is certain now; "" while half a character or the beginning of a stop text is held back.
        ids: The tokens that were drawn.
        found: For each of them its log probability and the most probable ids with theirs, if these were asked for.

    """

    text: str
    ids: tuple[int, ...] = ()
    found: tuple[Found, ...] = ()


class Job:
    """A text that is being written: iterate over its pieces, in a thread or in an event loop, once.

    What came while nobody looked is one piece: who is slower than the model is not made slower still by what each
    piece costs.

    Attributes:
        prompt_ids: The prompt, before its end is healed.
        cached_tokens: How many of these were read for another text before.
        ids: The tokens so far, without a healed one and one that ended the text. At the end those behind a stop text
            are left out.
        found: For each of `ids` its log probability and the most probable ids with theirs; empty if not asked for.
        finish_reason: "stop", "length" (see `Writing`) or "cancelled"; None while the text goes on, and after an error.

    """

    def __init__(
        self,
        opening: "Opening",
        tokenizer: "Tokenizer",
        settings: "GenerationConfig",
        logprobs: int | None,
        *,
        trims: bool = False,
        assistant: "GPT | None" = None,
        matcher: "Matcher | None" = None,
    ) -> None:
        self.opening = opening
        self.prompt_ids: tuple[int, ...] = tuple(opening.prompt.tolist())
        self.cached_tokens = 0
        self.ids: list[int] = []
        self.found: list[Found] = []
        self.finish_reason: Ended | None = None
        self._tokenizer, self._settings, self._logprobs = tokenizer, settings, logprobs
        self._assistant, self._matcher = assistant, matcher
        self._trim = Trim() if trims else None
        self._changed = threading.Condition()
        self._pieces: list[Piece] = []
        self._error: BaseException | None = None
        self._ended = self._cancelled = False
        self._listener: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._process = os.getpid()
        self.writing: Writing | None = None

    # --- for whoever reads ---

    def __iter__(self) -> Iterator[Piece]:
        """Wait for the pieces. Raises the error that ended the text, if one did."""
        self._check_process()
        ended = False
        while not ended:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self._ended)
                piece, ended = self._take()
            if piece is not None:
                yield piece
        self._raise()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Do the same in an event loop. Leaving early cancels the job."""
        self._check_process()
        ready = asyncio.Event()
        with self._changed:
            self._listener = asyncio.get_running_loop(), ready
        ended = False
        try:
            while not ended:
                ready.clear()
                with self._changed:
                    piece, ended = self._take()
                if piece is not None:
                    yield piece
                elif not ended:
                    await ready.wait()
        finally:
            self.cancel()
        self._raise()

    def text(self) -> str:
        """Wait for the whole text."""
        return "".join(piece.text for piece in self)

    def cancel(self) -> None:
        """Ask for no more; what has ended stays as it is."""
        with self._changed:
            self._cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Whether no more is asked for."""
        return self._cancelled

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise InvalidValueError("Job: its engine belongs to the process that this one was forked from")

    def _take(self) -> tuple[Piece | None, bool]:
        pieces, self._pieces = self._pieces, []
        return _together(pieces), self._ended

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    # --- for the engine, in its thread ---

    def begin(self, start: "Beginning") -> None:
        """Go on from what was read: the next token can be drawn, if the text is not `done`."""
        self.writing = Writing(
            start, self._tokenizer, self._settings, self._logprobs, self._assistant, self._matcher
        )
        self._put(self.writing.begin())

    def push(self, token: int) -> None:
        """Go on with a token that was drawn; `wake` is called later, once for all texts."""
        writing = self.writing
        assert writing is not None
        count = len(writing.ids)
        text = writing.push(token)
        ids, found = tuple(writing.ids[count:]), tuple(writing.found[count:])
        self.ids, self.found = writing.ids, writing.found
        self._put(text, ids, found)

    def end(self, error: BaseException | None = None) -> None:
        """Tell whoever waits that nothing follows."""
        with self._changed:
            if error is None:
                done = self.writing is not None and self.writing.done
                self.finish_reason = self.writing.finish_reason if self.writing and done else "cancelled"
            self._error, self._ended = error, True
            self._changed.notify_all()
        wake([self])

    def _put(self, text: str, ids: tuple[int, ...] = (), found: tuple[Found, ...] = ()) -> None:
        if self._trim is not None:
            text = self._trim.push(text)
        if not text and not ids:
            return
        with self._changed:
            self._pieces.append(Piece(text, ids, found))
            self._changed.notify_all()


def wake(jobs: Iterable[Job]) -> None:
    """Tell the event loops that listen to these jobs to look, each loop once.

    Telling a loop writes to a pipe and lets go of the GIL, which a busy loop is in no hurry to give back: once a token
    of all texts, and not once a token of each.
    """
    listening = defaultdict[asyncio.AbstractEventLoop, list[asyncio.Event]](list)
    for job in jobs:
        if job._listener is not None:
            loop, ready = job._listener
            listening[loop].append(ready)
    for loop, events in listening.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody listens
            loop.call_soon_threadsafe(_set, events)


def _set(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()


def _together(pieces: list[Piece]) -> Piece | None:
    if len(pieces) < 2:
        return pieces[0] if pieces else None
    ids = tuple(id for piece in pieces for id in piece.ids)
    found = tuple(one for piece in pieces for one in piece.found)
    return Piece("".join(piece.text for piece in pieces), ids, found)
