"""`Watch`: stands around everything, counts and times requests, and answers what goes wrong."""

import logging
import time
import traceback

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from subgpt.serving.errors import as_api_error
from subgpt.serving.leaving import ClientGoneError
from subgpt.serving.metrics import Metrics
from subgpt.serving.routes import label

_GONE = 499  # nginx's status for clients that did not wait
log = logging.getLogger("subgpt.serving")


class Watch:
    """Around everything: counts and times requests, and makes an answer of whatever goes wrong.

    The log gets the kind and the place of a fault, not its words, in which a prompt may be.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except (ClientGoneError, ClientDisconnect):
            status = status or _GONE
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s in %s:%s (%s)", type(error).__name__, where.filename, where.lineno, where.name)
            if status == 0:
                await as_api_error(error).response()(scope, receive, send_noting)
        finally:
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"
            self._metrics.note_request(label(scope["path"]), method, status, time.perf_counter() - started)
