"""What goes wrong with a request, in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from subgpt.errors import BusyError, InternalError, OutOfMemoryError, OutputError, SubgptError

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    503: "unavailable",
}
_SAID_FIRST = re.compile(r"(?:GenerationConfig: )?(?:there is no setting ')?(\w+)")
_OPTIONS = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens", "num_return_sequences": "n"}


class ApiError(Exception):
    """A request that is answered with an error.

    status: the HTTP status. message: what is wrong, and what would be right. param: which field it is about. code: for
    programs; by default what the status says. retry_after: seconds after which it is worth trying again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code = code or _CODES.get(status, "server_error" if status >= 500 else "invalid_request")
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The error as clients of OpenAI's API read it; in a stream it is an event."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """Give the response, with Retry-After where it is worth trying again."""
        after = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return JSONResponse(self.body, self.status, headers={**(headers or {}), **after})


def as_api_error(error: Exception) -> ApiError:
    """Say what an error means to the client: its own mistake (400), a full queue (429), or a fault here (500).

    What a fault says may have parts of a prompt in it, or paths; the client gets neither.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="queue_full", retry_after=1)
    if isinstance(error, OutOfMemoryError | MemoryError):
        return ApiError(503, "there is not enough memory for this request; try a shorter one", retry_after=5)
    if isinstance(error, SubgptError) and not isinstance(error, InternalError | OutputError):
        return _mistake(str(error))
    return ApiError(500, "the server has a fault; its log says where")


def too_long(seconds: float) -> ApiError:
    """Make the error of a request that took longer than it may."""
    return ApiError(
        503, f"the answer took longer than {seconds:g} seconds", code="request_timeout", retry_after=1
    )


def _mistake(said: str) -> ApiError:
    """Name the field that a message of `GenerationConfig` is about as the request names it."""
    found = _SAID_FIRST.match(said) if said.startswith("GenerationConfig: ") else None
    name = found.group(1) if found else None
    message = said.removeprefix("GenerationConfig: ")
    if name in _OPTIONS:
        message = message.replace(name, _OPTIONS[name], 1)
    return ApiError(400, message, param=_OPTIONS.get(name, name) if name else None)
