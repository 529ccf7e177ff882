"""A tiny model that is served: to a client in the same process, and by a real server in a thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import subgpt

for needed in ("fastapi", "uvicorn", "prometheus_client", "itsdangerous", "httpx"):
    pytest.importorskip(needed, reason=f"{needed}, of the extra `serve` or for its tests, is not installed")

from starlette.testclient import TestClient  # noqa: E402  after what skips without them

from subgpt.serving.app import create_app  # noqa: E402
from subgpt.serving.models import Served  # noqa: E402
from subgpt.serving.run import Server, listen, make_server  # noqa: E402
from subgpt.serving.settings import ServerSettings  # noqa: E402

ENDLESS = 10_000_000
"""Tokens of a text that is cancelled long before it has them, however fast it is written."""


@pytest.fixture(scope="session")
def small(tiny):
    """A model of random weights, with room for a talk."""
    return subgpt.GPT(tiny(block_size=128), seed=1)


@pytest.fixture(scope="session")
def served(small, tokenizer) -> Iterator[Served]:
    with subgpt.Engine(small, tokenizer, max_batch=8) as engine:
        yield Served("poems", Path("runs/poems"), small, tokenizer, engine)


@pytest.fixture(scope="session")
def make_client(served) -> Callable[..., TestClient]:
    """Make a client of an application of its own; `make_client(max_n=2)` changes its settings."""

    def make(*others: Served, headers=None, **settings) -> TestClient:
        app = create_app([served, *others], ServerSettings(**{"playground": False, **settings}))
        return TestClient(app, base_url="http://127.0.0.1:8000", headers=headers, follow_redirects=False)

    return make


@pytest.fixture(scope="session")
def client(make_client) -> TestClient:
    return make_client()


@contextlib.contextmanager
def serving(served: Served, **settings) -> Iterator[tuple[str, Server]]:
    """Run a real server in a thread; gives its address."""
    with contextlib.closing(listen("127.0.0.1", 0)) as listening:
        endless = {"playground": False, "max_tokens": ENDLESS}
        server = make_server([served], ServerSettings(**{**endless, **settings}))
        up = threading.Event()
        server.on_start = up.set
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        assert up.wait(30)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def waited_for(condition, seconds=30.0):
    """Wait until something holds, which it does not if it takes that long."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(scope="module")
def address(served) -> Iterator[str]:
    """Where a real server listens."""
    with serving(served, grace_seconds=0.2) as (where, _):
        yield where


@pytest.fixture
def slow(tiny, tokenizer) -> Iterator[Served]:
    """A model that takes its time, one text at once, and no more than one that waits."""
    model = subgpt.GPT(tiny(block_size=512, n_layer=6, n_embd=128), seed=1)
    with subgpt.Engine(model, tokenizer, max_batch=1, max_waiting=1) as engine:
        yield Served("slow", Path("runs/slow"), model, tokenizer, engine)
