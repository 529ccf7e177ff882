"""A server with the playground in a process of its own, and a browser without a window to look at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import subgpt

MARKS = {
    "tokens": ".chip:visible",
    "next": ".bar .percent:visible",
    "write": ".paper:visible",
    "chat": ".talk:visible",
    "training": ".facts:visible",
    "inside": ".lens:visible",
}
"""What is there when a tab has shown what it has to show."""
LINES = [
    "so much depends upon a red wheel barrow glazed with rain water beside the white chickens",
    "i have eaten the plums that were in the icebox and which you were probably saving",
    "the fog comes on little cat feet; it sits looking over harbor and city and then moves on",
]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A running server: `url`, the folder of its runs, and where it runs."""
    for needed in ("nicegui", "fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(needed, reason=f"the server with its page needs {needed}")
    runs = tmp_path_factory.mktemp("runs")
    texts = [f"{line}, {number}.\n" for number in range(8) for line in LINES]
    tokenizer = subgpt.Tokenizer.train(iter(texts), vocab_size=320)
    model = subgpt.GPT(subgpt.GPTConfig(tokenizer.vocab_size, 64, 2, 2, 32), seed=1)
    settings = subgpt.TrainConfig(
        max_steps=60,
        batch_size=4,
        learning_rate=5e-3,
        eval_steps=20,
        sample_steps=20,
        sample_prompt="so",
        sample_tokens=12,
    )
    subgpt.pretrain(model, tokenizer, texts, settings, output_dir=runs / "plums", callbacks=())
    subgpt.Tokenizer.train(iter(texts), level="char").save(runs / "letters")
    cwd = tmp_path_factory.mktemp("cwd")
    log = cwd.parent / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("page_server.py")), str(runs)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(Path(subgpt.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        port = process.stdout.readline().strip()
        assert port, log.read_text()
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/", runs=runs, cwd=cwd, log=log)
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def chromium():
    """A browser, for no longer than it is used: while playwright is there, its event loop is the thread's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright")
    path = next(
        (
            found
            for name in ("chromium", "chromium-browser", "google-chrome")
            if (found := shutil.which(name))
        ),
        None,
    )
    if path is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(site, chromium):
    """Opens the page at a tab, as a new visitor: `open_page("chat", width=390, dark=True)`."""
    contexts = []

    def opened(tab="tokens", *, width=1280, height=900, dark=False):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.requested, page.problems, page.marks = [], [], MARKS
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
        page.goto(f"{site.url}#{tab}")
        page.locator(".panel:visible").wait_for()
        page.locator(MARKS[tab]).first.wait_for()
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            assert page.problems == []
        context.close()
