"""Clients of a server that do what clients do: read to the end, go away in the middle, ask for nonsense."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any

TEXTS = ["so much depends", "a red wheel", "barrow", "glazed with rain water beside the white chickens", ""]
ROUTES = ["/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/detokenize"]
NONSENSE: list[bytes] = [
    b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 5000, b'{"prompt": "a", "max_tokens": -1}',
    b'{"prompt": "a", "n": 1000000000}', b'{"prompt": "a", "temperature": "warm"}', b'{"prompt": [1, "a"]}',
    b'{"prompt": "a", "regex": "(("}', b'{"prompt": "a", "model": "../../etc/passwd"}', b'{"prompt": [99999999]}',
    b'{"prompt": "a", "json_schema": {"type": "nothing"}}', b'{"messages": [{"role": "nobody"}]}',
    b'{"prompt": "a", "stop": [""]}', b'{"input": ""}', b'{"tokens": [-1]}', b'{"prompt": "' + b"a" * 100_000 + b'"}',
]  # fmt: skip


async def visits(port: int, seconds: float, visitors: int) -> Counter[str]:
    """Let so many clients ask one thing after the other; gives how often what came of it."""
    seen: Counter[str] = Counter()
    until = time.monotonic() + seconds
    await asyncio.gather(*(_visitor(port, until, random.Random(number), seen) for number in range(visitors)))
    return seen


async def _visitor(port: int, until: float, draw: random.Random, seen: Counter[str]) -> None:
    kinds = [_reader, _reader, _leaver, _nonsense, _torn, _other]
    while time.monotonic() < until:
        kind = draw.choice(kinds)
        try:
            status = await asyncio.wait_for(kind(port, draw), 120)
        except TimeoutError:
            status = "HANG"
        except (OSError, asyncio.IncompleteReadError) as error:
            status = type(error).__name__
            await asyncio.sleep(0.1)
        seen[f"{kind.__name__[1:]} {status}"] += 1


async def _reader(port: int, draw: random.Random) -> str:
    """Read a stream to its end."""
    return await _ask(port, "/v1/completions", _body(draw, stream=True), lambda _: True)


async def _leaver(port: int, draw: random.Random) -> str:
    """Close the connection after some events."""
    after = draw.randrange(6)
    return await _ask(port, "/v1/completions", _body(draw, stream=True, max_tokens=400), lambda n: n < after)


async def _nonsense(port: int, draw: random.Random) -> str:
    return await _ask(port, draw.choice(ROUTES), draw.choice(NONSENSE), lambda _: True)


async def _torn(port: int, draw: random.Random) -> str:
    """Say less than was announced, and go."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = _body(draw)
    writer.write(_head("/v1/completions", len(body) + 100) + body[: draw.randrange(len(body))])
    await asyncio.sleep(draw.random() / 20)
    writer.close()
    return "gone"


async def _other(port: int, draw: random.Random) -> str:
    """Ask for something else, all at once."""
    route, body = draw.choice(
        [
            ("/tokenize", {"prompt": draw.choice(TEXTS)}),
            ("/detokenize", {"tokens": [1, 2, 3]}),
            ("/v1/embeddings", {"input": draw.choice(TEXTS[:4])}),
            ("/v1/completions", {"prompt": "a", "max_tokens": 4, "regex": "[a-d]{2,4}"}),
            ("/v1/completions", {"prompt": TEXTS[:3], "n": 2, "max_tokens": 8, "logprobs": 3}),
            ("/nowhere", {}),
        ]
    )
    return await _ask(port, route, json.dumps(body).encode(), lambda _: True)


def _body(draw: random.Random, **more: Any) -> bytes:
    body = {
        "prompt": draw.choice(TEXTS),
        "max_tokens": draw.randint(1, 40),
        "seed": draw.randrange(1 << 20),
        "ignore_eos": True,
    }
    return json.dumps({**body, **more}).encode()


def _head(route: str, length: int) -> bytes:
    return f"POST {route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode()


async def _ask(port: int, route: str, body: bytes, goes_on: Any) -> str:
    """Send a request and read lines of its answer while `goes_on` says so of their number; gives the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        writer.write(_head(route, len(body)) + body)
        status = (await reader.readline()).split(b" ")
        events = 0
        async for line in reader:
            events += line.startswith(b"data: ")
            if not goes_on(events):
                return "left"
        return status[1].decode() if len(status) > 1 else "no answer"
    finally:
        writer.close()
