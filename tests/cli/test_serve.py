"""`subgpt serve`: what it refuses before it starts, and a real start and end."""

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from typer.main import get_command

from subgpt.cli.commands import serve

from ..server_process import started
from .conftest import invoke

for needed in ("fastapi", "uvicorn", "prometheus_client", "itsdangerous"):
    pytest.importorskip(needed, reason=f"{needed}, of the extra `serve`, is not installed")

KEY = "correct-horse-battery"


def ask(address: str, body: dict[str, object], **headers: str) -> dict[str, object]:
    data = json.dumps(body).encode()
    request = urllib.request.Request(
        f"{address}/v1/completions", data, {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def refused(address: str) -> int:
    try:
        ask(address, {"prompt": "a"})
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_until_a_signal_ends_it(shop: Path, number: signal.Signals) -> None:
    with started(shop / "run") as (address, _, process):
        answer = ask(address, {"prompt": "The cat", "max_tokens": 4})
        assert answer["model"] == "run"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out == ""


def test_the_key_comes_from_the_environment_or_a_file(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    for arguments, environment in ((("--api-key-file", file), {}), ((), {"SUBGPT_API_KEY": KEY})):
        with started(shop / "run", *arguments, **environment) as (address, said, process):
            assert refused(address) == 401
            assert (
                ask(address, {"prompt": "a", "max_tokens": 1}, Authorization=f"Bearer {KEY}")["model"]
                == "run"
            )
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
            assert KEY not in said + out + err


def test_models_are_told_by_name_with_their_settings(shop: Path) -> None:
    options = ("--name", "cats", "--quantize", "int8", "--threads", 1)
    with started(shop / "run", *options) as (address, said, _):
        assert ask(address, {"prompt": "a", "model": "cats", "max_tokens": 1})["model"] == "cats"
    assert "int8" in said
    assert re.search(r"threads +1", said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "SUBGPT_API_KEY"),
        (["--host", "0.0.0.0", "--api-key", "short"], "16 or more"),
        (["--api-key-file", "no/such/file"], "no/such/file"),
        (["--allow-origin", "*"], "no origin"),
        (["--max-body-bytes", "3"], "max_body_bytes = 3"),
        (["--quantize", "int3"], "int3"),
        (["--name", " "], "--name is empty"),
        (["--host", "192.0.2.1", "--api-key", KEY], "cannot listen at 192.0.2.1"),
    ],
)
def test_it_does_not_start_where_that_would_not_be_right(
    shop: Path, arguments: list[str], words: str
) -> None:
    result = invoke("serve", shop / "run", "--no-playground", *arguments)
    assert result.code == (2 if words == "int3" else 1)
    assert words in result.line()
    assert "short" not in result.err


def test_every_flag_can_be_a_variable(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [param for param in get_command(serve.app).params if param.param_type_name == "option"]
    without = {param.name for param in options if not param.envvar}
    assert without == {"threads", "quiet", "verbose", "debug"}  # of the first SUBGPT_NUM_THREADS is one
    monkeypatch.setenv("SUBGPT_MAX_BATCH", "0")
    assert "SUBGPT_MAX_BATCH = '0'" in invoke("serve", shop / "run").line()
    monkeypatch.setenv("SUBGPT_MAX_BATCH", "4")
    monkeypatch.setenv("SUBGPT_ALLOW_ORIGIN", "https://a.example *")
    assert "'*' is no origin" in invoke("serve", shop / "run", "--no-playground").line()


def test_it_says_that_a_port_is_taken(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = invoke("serve", shop / "run", "--no-playground", "--port", taken.getsockname()[1])
    assert result.code == 1
    assert "--port" in result.line()


def test_models_need_names_of_their_own_and_have_to_be_there(shop: Path) -> None:
    assert "two models" in invoke("serve", shop / "run", shop / "run", "--no-playground").line()
    assert "no such" in invoke("serve", shop / "nothing", "--no-playground").line()
    assert invoke("serve").code == 2


def test_help_needs_no_extra() -> None:
    result = invoke("serve", "--help")
    assert result.code == 0
    assert "--api-key-file" in result.out


def test_without_the_extra_it_names_it(shop: Path) -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = None; from subgpt.cli import main; "
        f"sys.exit(main(['serve', {str(shop / 'run')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert 'pip install "subgpt[serve]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_info_does_not_show_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBGPT_API_KEY", KEY)
    result = invoke("info")
    assert "SUBGPT_API_KEY" in result.out
    assert KEY not in result.out


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Give the status, the content type and the text of an answer; redirects are not followed."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, f"/{path}", headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["content-type"] or "", response.read().decode()


def test_the_page_stands_beside_the_api_and_behind_the_same_checks(shop: Path) -> None:
    pytest.importorskip("nicegui", reason="nicegui, of the extra `serve`, is not installed")
    with started(shop / "run", page=True) as (address, said, process):
        assert "page " in said
        status, kind, text = get(f"{address}/", Accept="text/html")
        assert (status, kind.partition(";")[0]) == (200, "text/html")
        assert "subgpt" in text
        assert get(f"{address}/", Host="evil.example")[0] == 403
        assert get(f"{address}/v1/none")[:2] == (404, "application/json")
        assert get(f"{address}/v1/completions")[:2] == (405, "application/json")
        assert get(f"{address}/health", "DELETE")[:2] == (405, "application/json")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_the_page_needs_the_key_too(shop: Path) -> None:
    pytest.importorskip("nicegui", reason="nicegui, of the extra `serve`, is not installed")
    with started(shop / "run", page=True, SUBGPT_API_KEY=KEY) as (address, _, _):
        assert get(f"{address}/", Accept="text/html")[0] == 303
        assert "password" in get(f"{address}/login")[2]
        socket_path = "_nicegui_ws/socket.io/?EIO=4&transport=polling"
        assert get(f"{address}/{socket_path}")[0] == 401
        assert get(f"{address}/", Authorization=f"Bearer {KEY}")[0] == 200


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_it_listens_at_addresses_of_either_age(shop: Path, host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        pytest.skip(f"this machine has no address {host}")
    with started(shop / "run", "--host", host) as (address, _, _):
        assert (host if ":" not in host else f"[{host}]") in address
        body = {"prompt": "a", "max_tokens": 2, "ignore_eos": True}
        assert ask(address, body)["usage"]["completion_tokens"] == 2
