"""Many clients at once, clients that leave, requests that last too long, and a server that ends."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

import subgpt
from subgpt.serving import plain_routes

from .conftest import ENDLESS, serving, waited_for

LONG = {"prompt": "the", "max_tokens": ENDLESS, "ignore_eos": True, "stream": True}
PROMPTS = ["the fog", "a red wheel", "i have eaten", "petals on a wet"]


def pieces(lines):
    """The events of a stream."""
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


def test_clients_at_once_get_what_each_would_get_alone(served, address):
    async def ask(client: httpx.AsyncClient, number: int) -> tuple[str, str]:
        body = {
            "prompt": PROMPTS[number % 4], "seed": number, "max_tokens": 40, "ignore_eos": True, "stream": True
        }  # fmt: skip
        text, last = "", ""
        async with client.stream("POST", f"{address}/v1/completions", json=body) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                last = line or last
                text += "".join(choice["text"] for event in pieces([line]) for choice in event["choices"])
        return text, last

    async def all_of_them() -> list[tuple[str, str]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(32)))

    for number, (text, last) in enumerate(asyncio.run(all_of_them())):
        alone = subgpt.generate(
            served.model, served.tokenizer, PROMPTS[number % 4], seed=number, max_new_tokens=40,
            ignore_eos=True, token_healing=False, return_prompt=False,
        )  # fmt: skip
        assert text == alone
        assert last == "data: [DONE]"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(slow, stream):
    with serving(slow) as (address, _), httpx.Client(timeout=60) as client:
        if stream:
            with client.stream("POST", f"{address}/v1/completions", json=LONG) as response:
                lines = response.iter_lines()  # kept: it closes the response when it goes
                next(lines)
                assert slow.engine.stats.running == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{address}/v1/completions", json={**LONG, "stream": False}, timeout=0.3)
        assert waited_for(lambda: slow.engine.stats.running == 0)
        short = client.post(f"{address}/v1/completions", json={"prompt": "the", "max_tokens": 1})
        assert short.status_code == 200


def test_no_more_is_embedded_for_a_client_that_has_left(served, monkeypatch):
    embedded = []

    def embed(served, ids):
        embedded.append(ids)
        time.sleep(0.1)
        return np.zeros(1, np.float32)

    monkeypatch.setattr(plain_routes, "_embed", embed)
    with serving(served, max_texts=100) as (address, server), httpx.Client(timeout=60) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{address}/v1/embeddings", json={"input": ["the fog"] * 100}, timeout=0.2)
        assert waited_for(lambda: server._work.requests == 0)
    assert 0 < len(embedded) < 100


def test_more_texts_than_have_room_leave_none_behind(slow):
    with serving(slow) as (address, _), httpx.Client(timeout=60) as client:
        body = {**LONG, "n": 3}
        response = client.post(f"{address}/v1/completions", json=body)
        assert response.status_code == 429
        assert response.json()["error"]["code"] == "queue_full"
        assert waited_for(lambda: slow.engine.stats.running + slow.engine.stats.waiting == 0)


def test_more_requests_than_there_may_be_are_429(slow):
    with serving(slow, max_requests=1) as (address, _), httpx.Client(timeout=60) as client:
        with client.stream("POST", f"{address}/v1/completions", json=LONG) as response:
            lines = response.iter_lines()
            next(lines)
            second = client.post(f"{address}/v1/completions", json={"prompt": "a"})
            assert second.status_code == 429
            assert second.headers["retry-after"] == "1"
            assert client.get(f"{address}/health").status_code == 200
        assert waited_for(lambda: client.post(f"{address}/tokenize", json={"prompt": "a"}).status_code == 200)


def test_a_request_that_lasts_too_long_is_ended(slow):
    with serving(slow, request_seconds=0.3) as (address, _), httpx.Client(timeout=60) as client:
        whole = client.post(f"{address}/v1/completions", json={**LONG, "stream": False})
        assert whole.status_code == 503
        assert whole.json()["error"]["code"] == "request_timeout"
        lines = client.post(f"{address}/v1/completions", json=LONG).text.split("\n\n")
        assert lines[-2] == "data: [DONE]"
        assert pieces(lines)[-1]["error"]["code"] == "request_timeout"
        assert waited_for(lambda: slow.engine.stats.running == 0)


def test_an_error_in_the_middle_of_a_stream_is_an_event(make_client, served, monkeypatch):
    pytest.importorskip("llguidance", reason="llguidance, of the extra `structured`, is not installed")
    body = {
        "prompt": "a",
        "stream": True,
        "json_schema": {"const": "日"},
    }  # the tokenizer has no such character
    lines = make_client().post("/v1/completions", json=body).text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    assert "json_schema" in pieces(lines)[-1]["error"]["message"]


def test_a_server_that_ends_lets_short_texts_end(slow):
    with serving(slow, grace_seconds=30) as (address, server), httpx.Client(timeout=60) as client:
        body = {**LONG, "max_tokens": 30}
        with client.stream("POST", f"{address}/v1/completions", json=body) as response:
            lines = response.iter_lines()
            first = next(lines)
            server.should_exit = True
            rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert pieces([first, *rest])[-1]["choices"][0]["finish_reason"] == "length"


def test_a_server_that_ends_ends_long_texts_and_says_so(slow):
    with serving(slow, grace_seconds=0.1) as (address, server), ThreadPoolExecutor() as pool:
        streamed = pool.submit(httpx.post, f"{address}/v1/completions", json=LONG, timeout=60)
        assert waited_for(lambda: slow.engine.stats.running == 1)
        whole = pool.submit(
            httpx.post, f"{address}/v1/completions", json={**LONG, "stream": False}, timeout=60
        )
        assert waited_for(lambda: slow.engine.stats.waiting == 1)
        server.should_exit = True
        lines = streamed.result().text.split("\n\n")
        answer = whole.result()
    assert lines[-2] == "data: [DONE]"
    assert pieces(lines)[-1]["error"]["code"] == "shutting_down"
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "shutting_down"
    assert answer.headers["retry-after"]


def test_a_second_signal_ends_texts_at_once(slow):
    with serving(slow, grace_seconds=300) as (address, server), ThreadPoolExecutor() as pool:
        streamed = pool.submit(httpx.post, f"{address}/v1/completions", json=LONG, timeout=60)
        assert waited_for(lambda: slow.engine.stats.running == 1)
        for _ in range(2):
            server.handle_exit(15, None)
        lines = streamed.result().text.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    assert pieces(lines)[-1]["error"]["code"] == "shutting_down"


def test_a_client_that_reads_nothing_holds_nobody_up(served, address):
    import socket

    host, _, port = address.removeprefix("http://").partition(":")
    body = json.dumps({**LONG, "logprobs": 20}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as silent:
        silent.sendall(head.encode() + body)
        answers = [
            httpx.post(f"{address}/v1/completions", json={"prompt": "the", "max_tokens": 4}, timeout=60)
            for _ in range(5)
        ]
        assert {answer.status_code for answer in answers} == {200}
    assert threading.active_count() < 100
