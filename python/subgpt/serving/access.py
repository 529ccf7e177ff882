"""Who may ask: names that this server is called by, web pages that may ask, and the key. Also of websockets.

A web page anywhere can have a browser send requests to this machine. It cannot hide where it is from (Origin), and it
needs a name of its own that it points to this machine (DNS rebinding), which then stands in Host; both are looked at
before anything else. The key comes as a Bearer token, never in an address, where logs and histories would keep it; a
page in a browser gets a signed cookie for it (`login`).
"""

import hmac
import ipaddress
import socket

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from subgpt.serving.errors import ApiError
from subgpt.serving.login import Cookies
from subgpt.serving.routes import LOGIN, OPEN, is_api
from subgpt.serving.settings import ServerSettings

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without any, browsers hide the origin of the login form
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
# The page is made of Vue templates, which are compiled in the browser; everything in it comes from here.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class Gate:
    """Lets requests through whose Host and Origin are known, and tells browsers what answers may not be used for."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app, self._settings = app, settings
        self._names = {"localhost", *(name.lower() for name in settings.allow_hosts)}
        if not settings.is_local:
            self._names |= {settings.host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        policy = _API_POLICY if is_api(scope["path"]) else _PAGE_POLICY

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_ALWAYS, "Content-Security-Policy": policy}.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        error = self._check(headers.getlist("host"), headers.getlist("origin"))
        if error is None:
            await self._app(scope, receive, send_safely)
        else:
            await refuse(error.response(), scope, receive, send_safely)

    def _check(self, hosts: list[str], origins: list[str]) -> ApiError | None:
        if len(hosts) != 1 or not self._is_known(_name(hosts[0])):
            return ApiError(
                403,
                "this server is not called so (header Host); name what it is called with --allow-host",
                code="host_not_allowed",
            )
        for origin in origins:
            scheme, _, place = origin.partition("://")
            own = scheme in ("http", "https") and place.lower() == hosts[0].lower()
            if not own and origin not in self._settings.allow_origins:
                return ApiError(
                    403,
                    "pages of this origin may not ask (header Origin); name it with --allow-origin",
                    code="origin_not_allowed",
                )
        return None

    def _is_known(self, name: str) -> bool:
        """Whether `name` can only have been meant for this server: an address cannot be pointed elsewhere."""
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self._names
        return address.is_loopback or not self._settings.is_local or name in self._names


class KeyCheck:
    """Lets requests through that bring the key; browsers that bring none are sent to the login page."""

    def __init__(self, app: ASGIApp, key: str, cookies: Cookies) -> None:
        self._app, self._key, self._cookies = app, key, cookies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        if not is_api(scope["path"]) and "text/html" in Headers(scope=scope).get("accept", ""):
            response: Response = RedirectResponse(LOGIN, 303)
        else:
            message = "the key is missing or wrong; send it as: Authorization: Bearer KEY"
            response = ApiError(401, message).response({"WWW-Authenticate": "Bearer"})
        await refuse(response, scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and is_key(given.strip(), self._key):
            return True
        return not is_api(scope["path"]) and self._cookies.are_in(HTTPConnection(scope))


def is_key(given: str, key: str) -> bool:
    """Compare in a time that does not depend on how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), key.encode())


async def refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with `response`; a websocket is closed before it is open, which browsers see as 403."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await response(scope, receive, send)


def _name(host: str) -> str:
    """Take the port off a Host header."""
    if host.startswith("["):
        name, closed, _ = host[1:].partition("]")
        return name if closed else ""
    return host.rpartition(":")[0] if host.count(":") == 1 else host
