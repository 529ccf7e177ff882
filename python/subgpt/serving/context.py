"""`Context`: what every route of a server works with."""

from collections.abc import Sequence
from typing import cast

from anyio.to_thread import run_sync
from starlette.requests import Request

from subgpt.serving.errors import ApiError
from subgpt.serving.metrics import Metrics
from subgpt.serving.models import Served, find_served
from subgpt.serving.reading import RequestT, read_request
from subgpt.serving.settings import ServerSettings
from subgpt.serving.tokens import Spelling
from subgpt.serving.work import Work
from subgpt.spelling import did_you_mean

_LARGE = 64 << 10


class Context:
    """The models, the settings, what is being worked on, and the numbers about it."""

    def __init__(self, served: Sequence[Served], settings: ServerSettings) -> None:
        self.served, self.settings = tuple(served), settings
        self.metrics = Metrics(self.served)
        self.work = Work(settings.max_requests)
        self._spellings = {one.name: Spelling(one.tokenizer) for one in self.served}

    async def read(self, request: Request, kind: type[RequestT]) -> RequestT:
        """Read the body of a request; a large one in a thread, so that others go on meanwhile."""
        body = await request.body()
        if len(body) <= _LARGE:
            return read_request(kind, body, self.settings)
        return await run_sync(read_request, kind, body, self.settings)

    def find(self, name: str | None) -> Served:
        """Find the model that a request names; ApiError (404) if there is none."""
        found = find_served(self.served, name)
        if found is None:
            names = [one.name for one in self.served]
            said = (
                "several models are served, and none is named"
                if name is None
                else f"there is no model {name[:100]!r}"
            )
            raise ApiError(
                404,
                f"{said}; {did_you_mean((name or '')[:100], names)}",
                param="model",
                code="model_not_found",
            )
        return found

    def spelling(self, served: Served) -> Spelling:
        """Say how a model's tokens are written."""
        return self._spellings[served.name]

    def max_tokens(self, asked: int | None, otherwise: int, param: str = "max_tokens") -> int:
        """Give how many tokens a text may have; ApiError for too many, which `param` of the request asked for."""
        most = self.settings.max_tokens
        if asked is not None and asked > most:
            raise ApiError(
                400, f"{param}: {asked} is more than {most}, which this server writes", param=param
            )
        return min(otherwise, most) if asked is None else asked

    def check_counts(self, n: int, prompts: int, param: str = "prompt") -> None:
        """Raise ApiError for too many texts."""
        settings = self.settings
        if n > settings.max_n:
            raise ApiError(400, f"n: {n} is more than {settings.max_n} texts for one prompt", param="n")
        if n * prompts > settings.max_texts:
            raise ApiError(
                400,
                f"{n * prompts} texts (prompts x n) are more than {settings.max_texts} for one request; send several",
                param=param,
            )

    def check_logprobs(self, count: int | None, param: str) -> None:
        """Raise ApiError for more tokens listed in the place of one than there may be."""
        if count is not None and count > self.settings.max_logprobs:
            raise ApiError(400, f"{param}: {count} is more than {self.settings.max_logprobs}", param=param)


def context_of(request: Request) -> Context:
    """Give the context of the server that a request came to."""
    return cast(Context, request.app.state.serving)
