"""Requests that are broken, huge, deep, slow or of the wrong types: each gets an error, and the server goes on."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
import urllib.parse
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt.serving.schemas import ChatRequest, CompletionRequest, EmbeddingRequest

from .conftest import serving, waited_for

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
ROUTES = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
    "/v1/embeddings": EmbeddingRequest,
}


def post(client, path, body: bytes):
    return client.post(path, content=body, headers={"Content-Type": "application/json"})


def error_of(response, status):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b"\xff\xfe", b"[]", b"null", b'"text"', b'{"a":NaN}', b'{"prompt":"\\ud800"}',
     b"{" * 10, b'{"max_tokens":' + b"9" * 5000 + b"}", b'{"temperature":1e999}', b"\x00" * 100],
)  # fmt: skip
@pytest.mark.parametrize("path", [*ROUTES, "/tokenize", "/detokenize"])
def test_what_is_not_json_is_400(client, path, body):
    error_of(post(client, path, body), 400)


@pytest.mark.parametrize("depth", [65, 10_000, 1_000_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_400(client, depth, opening, closing):
    depth = min(depth, 700_000)
    for whole in (opening * depth, opening * depth + b"1" + closing * depth):
        if len(whole) < 4 << 20:
            body = b'{"json_schema":' + whole + b"}"
            assert error_of(post(client, "/v1/completions", body), 400)["code"] in (
                "too_deep",
                "invalid_json",
            )


@given(st.sampled_from(list(ROUTES)), st.data())
def test_wrong_types_of_any_field_are_400_or_right(client, path, data):
    fields = list(ROUTES[path].model_fields)
    body = data.draw(st.dictionaries(st.sampled_from(fields) | st.text(max_size=5), ANYTHING, max_size=4))
    body = {**{"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, **body}
    if path != "/v1/completions":
        body.pop("prompt")
    if path != "/v1/chat/completions":
        body.pop("messages")
    body["max_tokens" if path != "/v1/embeddings" else "model"] = 2 if path != "/v1/embeddings" else "poems"
    response = post(client, path, json.dumps(body, allow_nan=True).encode("utf-8", "surrogatepass"))
    assert response.status_code in (200, 400, 404), response.text


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(client, body):
    assert post(client, "/v1/chat/completions", body).status_code == 400


VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20).map(
    lambda text: text.encode("latin-1")
)


@given(st.sampled_from(["Host", "Origin", "Authorization", "Cookie", "Accept", "Content-Length"]), VALUES)
def test_any_header_is_answered(client, locked, name, value):
    for one in (client, locked):
        assert one.get("/v1/models", headers={name: value}).status_code in (200, 401, 403, 413)


@pytest.fixture(scope="module")
def locked(make_client):
    return make_client(api_key="correct-horse-battery")


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": [None] * 800_000},
        {"prompt": [[]] * 800_000},
        {"prompt": [[1]] * 500_000},
        {"stop": [""] * 400_000},
        {"logit_bias": {str(at): "x" for at in range(200_000)}},
        {str(at): 1 for at in range(200_000)},
        {"messages": [{"role": "x"}] * 100_000},
    ],
    ids=lambda body: next(iter(body)),
)
def test_a_million_mistakes_are_one(client, body):
    data = json.dumps(body, separators=(",", ":")).encode()
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    response = post(client, path, data)
    assert len(error_of(response, 400)["message"]) < 500


@pytest.mark.parametrize(
    "form",
    [
        {"regex": "a" * 40_000},
        {"grammar": "a" * 40_000},
        {"json_schema": {"enum": ["a" * 40_000]}},
        {"json_schema": {str(at): {} for at in range(10_000)}},
    ],
    ids=lambda form: next(iter(form)),
)
def test_a_form_may_be_too_large(client, form):
    response = client.post("/v1/completions", json={"prompt": "a", **form})
    assert "32768" in error_of(response, 400)["message"]


def test_a_body_may_be_too_large(make_client):
    client = make_client(max_body_bytes=2000)
    assert error_of(post(client, "/v1/completions", b" " * 2001), 413)["code"] == "request_too_large"
    fits = json.dumps({"prompt": "a", "max_tokens": 1}).encode()
    assert post(client, "/v1/completions", fits.ljust(2000)).status_code == 200

    def parts() -> Iterator[bytes]:  # of unknown length
        yield from [b" " * 500] * 5

    assert error_of(client.post("/v1/completions", content=parts()), 413)["code"] == "request_too_large"


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, str(10**15), "१"])
def test_a_length_that_cannot_be_is_no_fault(client, length):
    response = client.post("/v1/completions", content=b"{}", headers={"Content-Length": length.encode()})
    assert response.status_code == 413


class Raw:
    """A connection that says what it wants."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> bytes:
        """All that comes until the other side closes."""
        parts = []
        while part := self.socket.recv(65536):
            parts.append(part)
        return b"".join(parts)


HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"


def healthy(address: str) -> bool:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200


@pytest.fixture(scope="module")
def impatient(served):
    """A server that waits for nobody."""
    with serving(served, header_seconds=0.3, body_seconds=0.3, max_body_bytes=2000) as (address, _):
        yield address


def test_a_slow_body_is_408(impatient):
    with Raw(impatient) as raw:
        raw.send(HEAD + b'{"prompt"')
        answer = raw.answer()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert healthy(impatient)


def test_a_client_that_is_gone_before_its_body_is_no_fault(served, caplog):
    def requests(address: str) -> str:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    with serving(served, grace_seconds=0) as (address, _):
        with Raw(address) as raw:
            raw.send(HEAD + b'{"prompt"')
        assert waited_for(lambda: 'status="499"' in requests(address))
        assert 'status="500"' not in requests(address)
    assert not [record for record in caplog.records if record.name == "subgpt.serving"]


def test_a_body_that_drips_is_408(impatient):
    with Raw(impatient) as raw:
        raw.send(HEAD)
        begin = time.monotonic()
        for _ in range(20):
            if time.monotonic() - begin > 0.25:
                break
            raw.send(b" ")
            time.sleep(0.02)
        assert raw.answer().startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("begin", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(impatient, begin):
    with Raw(impatient) as raw:
        raw.send(begin)
        raw.answer()  # ends
    assert healthy(impatient)


def test_nor_is_the_second_head_of_a_connection(impatient):
    with Raw(impatient) as raw:
        raw.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert raw.socket.recv(65536).startswith(b"HTTP/1.1 200 ")
        raw.send(b"GET /hea")
        assert not raw.answer().startswith(b"HTTP/1.1 200 ")


def test_too_many_connections_are_503(served):
    with serving(served, max_connections=2, grace_seconds=0) as (address, server):
        for upgrade in (b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"):
            with Raw(address) as first, Raw(address) as second, Raw(address) as third:
                for raw in (first, second):
                    raw.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    assert raw.socket.recv(65536).startswith(b"HTTP/1.1 200 ")
                third.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n" + upgrade + b"\r\n")
                answer = third.answer()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1" in answer
            assert b'"code":"unavailable"' in answer
            assert waited_for(lambda: not server.server_state.connections)


def test_a_huge_body_without_length_is_413(impatient):
    with Raw(impatient) as raw:
        raw.send(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            raw.send(b"400\r\n" + b" " * 0x400 + b"\r\n")
        raw.send(b"0\r\n\r\n")
        assert raw.answer().startswith(b"HTTP/1.1 413 ")
    assert healthy(impatient)


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # no Host
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        HEAD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # TLS
    ],
)  # fmt: skip
def test_what_is_not_http_ends_its_connection_alone(impatient, request_):
    with Raw(impatient) as raw:
        try:
            raw.send(request_)
            answer = raw.socket.recv(65536)
        except ConnectionError:  # closed while it was being sent
            answer = b""
    assert not answer or answer.split(b" ")[1] in (b"400", b"403", b"404", b"408"), answer[:100]
    assert healthy(impatient)


def test_the_log_has_no_prompts_and_no_words_of_faults(make_client, served, monkeypatch, caplog):
    def fail(*args, **options):
        raise RuntimeError("secret prompt")

    monkeypatch.setattr(served.engine, "start", fail)
    response = post(make_client(), "/v1/completions", b'{"prompt": "secret prompt"}')
    assert error_of(response, 500)["code"] == "server_error"
    assert "secret" not in response.text
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "poems/../poems", "C:\\x", "%2e%2e", "a\0b"]
)
def test_a_name_with_parts_of_a_path_is_no_model(client, name):
    """Names are looked up among those that are served, and never become paths."""
    body = json.dumps({"model": name, "prompt": "a", "max_tokens": 1}).encode()
    assert error_of(post(client, "/v1/completions", body), 404)["code"] == "model_not_found"
    assert client.get(f"/v1/models/{urllib.parse.quote(name, safe='')}").status_code == 404
