"""How much a request may take: the bytes of its body and their time, how many at once, how long each lasts."""

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from subgpt.serving.errors import ApiError, too_long
from subgpt.serving.routes import HEALTH, METRICS, is_api
from subgpt.serving.settings import ServerSettings
from subgpt.serving.work import Work

_THROWN_AWAY = 16  # so many times the limit is read on, for the client to come to the answer
_SLACK = 5.0  # seconds beyond a request's time in which it may say so itself


class Limits:
    """Lets so many requests in at a time, reads their bodies within limits, and ends those that last too long."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, work: Work) -> None:
        self._app, self._settings, self._work = app, settings, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if not is_api(scope["path"]) or scope["path"] in (HEALTH, METRICS):
                await self._app(scope, await self._with_body(scope, receive), send)
                return
            with self._work.request():
                await self._in_time(scope, await self._with_body(scope, receive), send)
        except ApiError as error:
            await error.response({"Connection": "close"})(scope, receive, send)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End a request that does not do so itself: one that computes, or waits for a client that reads nothing."""
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        seconds = self._settings.request_seconds
        with anyio.move_on_after(seconds + _SLACK) as time_left:
            await self._app(scope, receive, send_noting)
        if time_left.cancelled_caught and not started:
            raise too_long(seconds)

    async def _with_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body; give a `receive` that has it, and then what else comes."""
        limit = self._settings.max_body_bytes
        declared = Headers(scope=scope).get("content-length", "0")
        room = limit * _THROWN_AWAY
        if not declared.isascii() or not declared.isdigit() or len(declared) > 18 or int(declared) > room:
            raise _too_large(limit)
        body, size = bytearray(), 0
        with anyio.move_on_after(self._settings.body_seconds) as time_left:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return _replay(bytes(body), gone=True, receive=receive)
                part = message.get("body", b"")
                more, size = message.get("more_body", False), size + len(part)
                if size <= limit:
                    body += part
                else:
                    body.clear()
                    if size > room:
                        raise _too_large(limit)
        if time_left.cancelled_caught and more:
            raise ApiError(408, f"the body did not arrive within {self._settings.body_seconds:g} seconds")
        if size > limit:
            raise _too_large(limit)
        return _replay(bytes(body), gone=False, receive=receive)


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"the body is larger than {limit} bytes")


def _replay(body: bytes, *, gone: bool, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": gone}
        return {"type": "http.disconnect"} if gone else await receive()

    return replay
