"""uvicorn's HTTP, with a time within which the head of a request must come, and so many connections at a time."""

import asyncio

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from subgpt.serving.errors import ApiError


def limited_protocol(seconds: float, connections: int) -> type[H11Protocol]:
    """Make the protocol: connections whose next head does not arrive within `seconds` are closed.

    A client that opens connections and says nothing, or a byte now and then, would hold them for ever. Requests of
    connections beyond `connections` are answered with 503.
    """

    class LimitedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self._give_up)
            if len(self.connections) > connections:
                self.app, self.ws_protocol_class = _no_room, None

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._awaits_head:
                if self._timer is None:
                    self._timer = self.loop.call_later(seconds, self._give_up)
            else:
                self._stop_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        @property
        def _awaits_head(self) -> bool:
            """Whether a head has begun to come, or the first has not."""
            return self.conn.their_state is h11.IDLE and (
                self.cycle is None or bool(self.conn.trailing_data[0])
            )

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if not self.transport.is_closing():
                self.transport.close()

    return LimitedProtocol


async def _no_room(scope: Scope, receive: Receive, send: Send) -> None:
    error = ApiError(503, "too many connections are open; try again later", retry_after=1)
    await error.response({"Connection": "close"})(scope, receive, send)
