"""Who may ask: names the server is called by, pages of other origins, the key, and the way in for people."""

from __future__ import annotations

import pytest
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from subgpt.errors import ConfigError
from subgpt.serving.app import create_app
from subgpt.serving.settings import ServerSettings

KEY = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {KEY}"}


def page_app(served, **settings):
    """An application with a page and a websocket of its own, as a playground has them."""
    app = create_app([served], ServerSettings(playground=False, **settings))

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    async def page(request):
        return HTMLResponse("<p>page</p>")

    app.router.routes += [WebSocketRoute("/socket", socket), Route("/", page)]
    return app


@pytest.fixture
def page_client(served):
    def make(**settings):
        return TestClient(
            page_app(served, **settings), base_url="http://127.0.0.1:8000", follow_redirects=False
        )

    return make


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "127.8.8.8"]
)
def test_this_machine_is_called_so(client, host):
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "", "[::1", "localhost.evil"],
)
def test_names_of_others_are_refused(client, host):
    response = client.get("/health", headers={"Host": host})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host_not_allowed"


def test_names_can_be_allowed(make_client):
    client = make_client(allow_hosts=["gpt.example"])
    assert client.get("/health", headers={"Host": "gpt.example:8000"}).status_code == 200
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403


def test_a_server_for_others_is_called_by_any_address(make_client):
    client = make_client(host="0.0.0.0", api_key=KEY)
    assert client.get("/health", headers={"Host": "10.0.0.1:8000"}).status_code == 200
    assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8001",
        "http://localhost:8000",
        "http://[",
        "//127.0.0.1:8000",
        "",
    ],
)
def test_pages_of_others_may_not_ask(client, origin):
    response = client.post("/v1/completions", json={"prompt": "a"}, headers={"Origin": origin})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in response.headers


def test_own_pages_may(client):
    assert client.get("/v1/models", headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200


def test_an_allowed_origin_gets_cors_and_no_other(make_client):
    client = make_client(allow_origins=["https://app.example"], api_key=KEY)
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    before = client.options("/v1/completions", headers=asked)
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == "https://app.example"
    response = client.get("/v1/models", headers={"Origin": "https://app.example", **BEARER})
    assert response.headers["access-control-allow-origin"] == "https://app.example"
    assert client.get("/v1/models", headers={"Origin": "https://app.example"}).status_code == 401
    assert (
        client.options("/v1/completions", headers={**asked, "Origin": "https://x.example"}).status_code == 403
    )


def test_the_key_is_needed(make_client):
    client = make_client(api_key=KEY)
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
    ):
        response = client.get("/v1/models", headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert KEY not in response.text
    assert client.get("/v1/models", headers=BEARER).status_code == 200
    assert client.get("/v1/models", headers={"Authorization": f"bearer {KEY}"}).status_code == 200
    assert client.get("/metrics").status_code == 401
    assert client.get("/health").status_code == 200
    assert client.get(f"/v1/models?api_key={KEY}").status_code == 401


def test_a_key_of_other_characters_is_wrong_and_no_fault(make_client):
    response = make_client(api_key=KEY).get("/v1/models", headers={"Authorization": b"Bearer \xff\xfe"})
    assert response.status_code == 401


def test_people_log_in(page_client):
    client = page_client(api_key=KEY)
    away = client.get("/", headers={"Accept": "text/html"})
    assert (away.status_code, away.headers["location"]) == (303, "/login")
    assert "password" in client.get("/login").text
    wrong = client.post("/login", data={"key": "wrong"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    right = client.post("/login", data={"key": KEY})
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/"))
    assert KEY not in cookie
    assert client.get("/", headers={"Accept": "text/html"}).text == "<p>page</p>"
    assert client.get("/v1/models").status_code == 401, "a cookie is no key of the API"


def test_a_form_of_too_many_fields_is_no_fault(page_client):
    wrong = page_client(api_key=KEY).post("/login", data={str(number): "a" for number in range(9)})
    assert wrong.status_code == 400
    assert "more than this form has" in wrong.text


def test_a_forged_cookie_is_none(page_client):
    client = page_client(api_key=KEY)
    client.cookies.set("subgpt", "0123456789abcdef.aaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbb")
    assert client.get("/").status_code == 401


def test_websockets_are_checked_too(page_client):
    client = page_client(api_key=KEY)

    def opened(**headers):
        with client.websocket_connect("ws://127.0.0.1:8000/socket", headers=headers) as socket:
            return socket.receive_text()

    assert opened(**BEARER) == "hello"
    for headers in ({}, {**BEARER, "Origin": "http://evil.example"}, {**BEARER, "Host": "evil.example"}):
        with pytest.raises(WebSocketDisconnect):
            opened(**headers)
    client.post("/login", data={"key": KEY})
    assert opened(Origin="http://127.0.0.1:8000") == "hello"


def test_browsers_are_told_what_answers_may_not_be_used_for(page_client):
    client = page_client()
    api, page = client.get("/health").headers, client.get("/").headers
    for headers in (api, page):
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in api["content-security-policy"]
    assert "http" not in page["content-security-policy"], "a page needs nothing from elsewhere"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "SUBGPT_API_KEY"),
        ({"host": "192.168.1.5"}, "no api_key"),
        ({"host": "somewhere"}, "no api_key"),
        ({"host": ""}, "host"),
        ({"api_key": "short"}, "16 or more"),
        ({"api_key": "wïth-other-characters"}, "ASCII"),
        ({"allow_origins": ["*"]}, "no origin"),
        ({"allow_origins": ["https://a.example/path"]}, "without a path"),
        ({"port": 70000}, "65535"),
        ({"max_json_depth": 1000}, "190"),
        ({"body_seconds": 0}, "greater than 0"),
        ({"max_body": 3}, "max_body_bytes"),
    ],
)
def test_settings_that_are_not_safe_or_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words) as raised:
        ServerSettings(**settings)
    assert "short" not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.3.4.5"])
def test_this_machine_needs_no_key(host):
    assert ServerSettings(host=host).is_local


def test_a_key_is_not_shown():
    assert KEY not in repr(ServerSettings(api_key=KEY))
