"""The texts of one request, from asking the engine for them to their last token."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from subgpt.serving.context import Context
from subgpt.serving.errors import ApiError, too_long
from subgpt.serving.models import Served
from subgpt.serving.work import ending

if TYPE_CHECKING:
    from subgpt.generation.job import Job, Piece

OnPiece: TypeAlias = "Callable[[int, Piece], Awaitable[None]]"
OnEnd: TypeAlias = Callable[[int], Awaitable[None]]
Emit: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]


class Answer(ABC):
    """What a request for texts is answered with, at once or piece by piece."""

    def __init__(self, context: Context, served: Served) -> None:
        self.context, self.served = context, served
        self.jobs: list[Job] = []

    @abstractmethod
    def begin(self) -> None:
        """Ask the engine for the texts, which are put to `jobs`; in a thread, since it computes.

        Raises what is wrong with the request.
        """

    @abstractmethod
    def whole(self, texts: list[str]) -> dict[str, Any]:
        """Lay out the answer, when all texts have ended."""

    @abstractmethod
    async def stream(self, emit: Emit) -> None:
        """Send the answer piece by piece."""

    async def write(self) -> dict[str, Any]:
        """Wait for all texts, and lay them out."""
        texts = [""] * len(self.jobs)

        async def on_piece(number: int, piece: "Piece") -> None:
            texts[number] += piece.text

        async def on_end(number: int) -> None:
            del number

        await self.follow(on_piece, on_end)
        return self.whole(texts)

    async def follow(self, on_piece: OnPiece, on_end: OnEnd) -> None:
        """Read all texts to their ends, each piece of text `number` given to `on_piece` as it comes.

        The first error of a text is raised and the others are cancelled; so they are when the time is over, and when
        the server ends (ApiError 503).
        """
        errors = list[Exception]()
        seconds = self.context.settings.request_seconds
        clocks = [self.context.metrics.clock(self.served.name) for _ in self.jobs]

        async def follow(number: int, job: "Job") -> None:
            try:
                async for piece in job:
                    clocks[number].note(len(piece.ids))
                    await on_piece(number, piece)
                if job.finish_reason == "cancelled":
                    raise ending() if self.context.work.ending else ApiError(503, "the text was cancelled")
                await on_end(number)
            except Exception as error:
                errors.append(error)
                group.cancel_scope.cancel()

        with anyio.move_on_after(seconds) as time:
            async with anyio.create_task_group() as group:
                for number, job in enumerate(self.jobs):
                    self.context.work.follow(job)
                    group.start_soon(follow, number, job)
        if errors:
            raise errors[0]
        if time.cancelled_caught:
            raise too_long(seconds)


def usage(prompt_tokens: int, jobs: "Sequence[Job]", n: int) -> dict[str, Any]:
    """Count tokens as OpenAI does: a prompt once, however many texts (`n`) it has."""
    new_tokens = sum(len(job.ids) for job in jobs)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(job.cached_tokens for job in jobs[::n])},
    }
