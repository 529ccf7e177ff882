"""`create_app`: the application, from its routes to what stands around them."""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from subgpt.errors import ConfigError, SubgptError
from subgpt.serving.access import Gate, KeyCheck, is_key
from subgpt.serving.chat import chat
from subgpt.serving.completions import completions
from subgpt.serving.context import Context
from subgpt.serving.errors import ApiError, as_api_error
from subgpt.serving.limits import Limits
from subgpt.serving.login import Cookies, Login
from subgpt.serving.models import Served
from subgpt.serving.plain_routes import (
    detokenize,
    embeddings,
    health,
    metrics,
    model,
    models,
    tokenize,
    tokenizer_info,
)
from subgpt.serving.routes import HEALTH, LOGIN, METRICS
from subgpt.serving.settings import ServerSettings
from subgpt.serving.watch import Watch

Endpoint = Callable[[Request], Awaitable[Response]]
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_ROUTES: list[tuple[str, str, Endpoint]] = [
    ("POST", "/v1/completions", completions),
    ("POST", "/v1/chat/completions", chat),
    ("POST", "/v1/embeddings", embeddings),
    ("GET", "/v1/models", models),
    ("GET", "/v1/models/{model:path}", model),
    ("POST", "/tokenize", tokenize),
    ("POST", "/detokenize", detokenize),
    ("GET", "/tokenizer_info", tokenizer_info),
    ("GET", HEALTH, health),
    ("GET", METRICS, metrics),
]


def create_app(served: Sequence[Served], settings: ServerSettings) -> FastAPI:
    """Make the application that serves these models; `app.state.serving` is its `Context`.

    Who made the engines closes them. Raises ConfigError for models with the same name, or none.
    """
    names = [one.name for one in served]
    if not names or len(set(names)) < len(names):
        raise ConfigError(
            f"create_app: the served models are {names}; give one at least, each with its own name"
        )
    app = FastAPI(title="subgpt", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    context = app.state.serving = Context(served, settings)
    for method, path, endpoint in _ROUTES:
        app.add_route(path, endpoint, methods=[method])
        app.add_route(path, _refuse_method(method), methods=_METHODS)
    for path in ("/v1", "/v1/{rest:path}"):
        app.add_route(path, _unknown_path, methods=_METHODS)
    _add_access(app, context)
    for kind, handler in ((HTTPException, _http_error), (ApiError, _error), (SubgptError, _error)):
        app.add_exception_handler(kind, handler)
    if settings.playground:
        from subgpt import playground

        playground.mount(app, served, settings.runs, max_tokens=settings.max_tokens)
    return app


def _add_access(app: FastAPI, context: Context) -> None:
    """Put around the routes, from the inside out: limits, the key, other origins, the gate, and the watch."""
    settings = context.settings
    app.add_middleware(Limits, settings=settings, work=context.work)
    if settings.api_key is not None:
        key, cookies = settings.api_key.get_secret_value(), Cookies()
        app.add_route(LOGIN, Login(lambda given: is_key(given, key), cookies).answer, methods=["GET", "POST"])
        app.add_middleware(KeyCheck, key=key, cookies=cookies)
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["Retry-After"],
        )
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Watch, metrics=context.metrics)


def _refuse_method(method: str) -> Endpoint:
    """Make what answers other methods of a path, so that they do not go on to the page."""

    async def refuse(request: Request) -> Response:
        error = ApiError(405, f"{request.url.path} takes {method}, not {request.method}")
        return error.response({"Allow": method})

    return refuse


async def _unknown_path(request: Request) -> Response:
    known = ", ".join(path.replace(":path", "") for _, path, _ in _ROUTES)
    raise ApiError(404, f"there is no {request.url.path[:100]}; there are {known}")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return await _error(request, ApiError(404, f"there is no {request.url.path[:100]}"))
    return ApiError(error.status_code, str(error.detail)).response(error.headers)


async def _error(request: Request, error: Exception) -> Response:
    del request
    return as_api_error(error).response()
