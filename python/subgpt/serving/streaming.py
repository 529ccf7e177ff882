"""How an `Answer` is sent: as one JSON object, or as server-sent events, the last of them `[DONE]`."""

from collections.abc import Mapping
from typing import Any

import anyio
import pydantic_core
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from subgpt.serving.errors import as_api_error
from subgpt.serving.leaving import while_connected
from subgpt.serving.texts import Answer

_LAST_WORDS = 5.0  # seconds for a client to take the end of its stream


class Json(Response):
    """A JSON object; numbers that JSON has not, such as the logarithm of 0, are null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write `content`."""
        return pydantic_core.to_json(content)


async def respond(request: Request, answer: Answer, *, stream: bool) -> Response:
    """Begin an answer; wait for the whole of it, or give a response that sends it as it comes."""
    if stream:
        return EventStream(answer)

    async def write() -> dict[str, Any]:
        await run_sync(answer.begin)
        return await answer.write()

    with answer.context.work.cancelling(answer.jobs):
        return Json(await while_connected(request.receive, write))


class EventStream(Response):
    """Sends an answer while the client is there.

    What is wrong with the request is raised before anything is sent; a later error is an event.
    """

    media_type = "text/event-stream"

    def __init__(self, answer: Answer) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        del scope

        async def send_body(data: bytes, *, more: bool) -> None:
            await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": more})

        async def emit(event: Mapping[str, Any]) -> None:
            await send_body(pydantic_core.to_json(event), more=True)

        async def stream() -> None:
            await run_sync(self._answer.begin)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await self._answer.stream(emit)
            except Exception as error:
                with anyio.move_on_after(_LAST_WORDS):
                    await emit(as_api_error(error).body)
            with anyio.move_on_after(_LAST_WORDS):
                await send_body(b"[DONE]", more=False)

        with self._answer.context.work.cancelling(self._answer.jobs):
            await while_connected(receive, stream)
