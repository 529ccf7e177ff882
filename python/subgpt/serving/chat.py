"""`/v1/chat/completions`: answers to messages."""

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from subgpt.serving.context import Context, context_of
from subgpt.serving.errors import ApiError
from subgpt.serving.models import Served
from subgpt.serving.schemas import ChatRequest
from subgpt.serving.scoring import check_length
from subgpt.serving.streaming import respond
from subgpt.serving.texts import Answer, Emit, usage
from subgpt.serving.tokens import chat_logprobs

if TYPE_CHECKING:
    from subgpt.generation.job import Piece


async def chat(request: Request) -> Response:
    """Answer `/v1/chat/completions`."""
    context = context_of(request)
    asked = await context.read(request, ChatRequest)
    answer = Chat(context, context.find(asked.model), asked)
    return await respond(request, answer, stream=asked.stream)


class Chat(Answer):
    """`n` answers to a conversation. They may be as long as the model's block, where nothing is said of it."""

    def __init__(self, context: Context, served: Served, asked: ChatRequest) -> None:
        super().__init__(context, served)
        context.check_counts(asked.n, 1)
        context.check_logprobs(asked.top_logprobs, "top_logprobs")
        if asked.top_logprobs is not None and not asked.logprobs:
            raise ApiError(400, "top_logprobs: also set logprobs to true", param="top_logprobs")
        self._asked = asked
        param = "max_tokens" if asked.max_completion_tokens is None else "max_completion_tokens"
        self._max_tokens = context.max_tokens(getattr(asked, param), served.model.config.block_size, param)
        self._spelling = context.spelling(served)
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": served.name,
        }

    def begin(self) -> None:
        """Ask for the answers."""
        asked, options = self._asked, self._asked.options(self._max_tokens)
        engine = self.served.engine
        opened = engine.open_chat([message.as_plain() for message in asked.messages], **options)
        check_length(len(opened.prompt), self.context.settings.max_prompt_tokens, "messages")
        logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
        for number in range(asked.n):
            self.jobs.append(engine.start(opened, seed=asked.seed_of(number), logprobs=logprobs))

    def whole(self, texts: list[str]) -> dict[str, Any]:
        """Lay out all answers."""
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": self._logprobs(job.ids, job.found),
                "finish_reason": job.finish_reason,
            }
            for number, (job, text) in enumerate(zip(self.jobs, texts, strict=True))
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage()}

    async def stream(self, emit: Emit) -> None:
        """Send the answers as they come."""
        no_usage = {"usage": None} if self._asked.wants_usage else {}
        head = {**self._head, "object": "chat.completion.chunk"}

        async def send(
            number: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None
        ) -> None:
            choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
            await emit({**head, "choices": [choice], **no_usage})

        async def on_piece(number: int, piece: "Piece") -> None:
            logprobs = self._logprobs(piece.ids, piece.found) if piece.ids else None
            if piece.text or logprobs is not None:
                await send(number, {"content": piece.text}, logprobs)

        async def on_end(number: int) -> None:
            await send(number, {}, None, self.jobs[number].finish_reason)

        for number in range(self._asked.n):
            await send(number, {"role": "assistant", "content": ""})
        await self.follow(on_piece, on_end)
        if self._asked.wants_usage:
            await emit({**head, "choices": [], "usage": self._usage()})

    def _logprobs(self, ids: Sequence[int], found: Sequence[Any]) -> dict[str, Any] | None:
        return chat_logprobs(self._spelling, zip(ids, found, strict=True)) if self._asked.logprobs else None

    def _usage(self) -> dict[str, Any]:
        return usage(len(self.jobs[0].prompt_ids), self.jobs, self._asked.n)
