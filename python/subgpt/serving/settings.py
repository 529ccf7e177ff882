"""`ServerSettings`: where a server listens, who may ask, and how much a request may take."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from subgpt.settings import Settings

SHORTEST_KEY = 16


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Sequence) else value


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_tuple)]


class ServerSettings(Settings):
    """Options of `create_app` and `subgpt serve`; a value that is not safe or cannot be raises ConfigError.

    >>> ServerSettings(host="0.0.0.0")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: ServerSettings: host 0.0.0.0 is open to other machines, and no api_key is set; ...
    """

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="address to listen at; any but this machine needs a key",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen at; 0: a free one")
    api_key: SecretStr | None = Field(
        default=None,
        description="what requests must bring as Bearer token; flags can be seen by others: better set SUBGPT_API_KEY",
    )
    allow_hosts: Names = Field(default=(), description="further names by which this server may be called")
    allow_origins: Names = Field(
        default=(), description="other web pages that may ask, as https://example.org"
    )
    playground: bool = Field(default=True, description="have a page to try the models at /")
    runs: Path | None = Field(default=None, description="folder of run directories that the page shows")

    max_body_bytes: int = Field(default=4 << 20, ge=1024, description="size of a request's body")
    max_json_depth: int = Field(default=64, ge=4, le=190, description="nesting of a request's JSON")
    max_prompt_tokens: int = Field(default=32768, ge=1, description="tokens of a prompt")
    max_tokens: int = Field(default=4096, ge=1, description="tokens that a text may have")
    max_n: int = Field(default=16, ge=1, description="texts for one prompt")
    max_texts: int = Field(default=128, ge=1, description="texts for one request, over all its prompts")
    max_logprobs: int = Field(default=20, ge=0, description="probable tokens to list in the place of each")
    max_requests: int = Field(default=256, ge=1, description="requests that are worked on at a time")
    max_connections: int = Field(default=1024, ge=1, description="connections that are open at a time")
    header_seconds: float = Field(default=10, gt=0, description="time for a request's head to arrive")
    body_seconds: float = Field(default=30, gt=0, description="time for a request's body to arrive")
    request_seconds: float = Field(default=600, gt=0, description="time for a request to be answered")
    grace_seconds: float = Field(
        default=10, ge=0, description="time that texts have to end when the server does"
    )

    @model_validator(mode="after")
    def _safe(self) -> "ServerSettings":
        key = None if self.api_key is None else self.api_key.get_secret_value()
        if key is None and not self.is_local:
            raise ValueError(
                f"host {self.host} is open to other machines, and no api_key is set; set SUBGPT_API_KEY or give "
                "--api-key-file, or keep to 127.0.0.1"
            )
        if key is not None and (len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable()):
            raise ValueError(
                f"api_key must have {SHORTEST_KEY} or more printable ASCII characters; make one with: "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        for origin in self.allow_origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
                raise ValueError(
                    f"allow_origins: {origin!r} is no origin; name each as https://example.org, without a path"
                )
        return self

    @property
    def is_local(self) -> bool:
        """Whether no other machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name: what it means is not known here
