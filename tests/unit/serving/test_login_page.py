"""The login page in a real browser."""

from __future__ import annotations

import shutil

import pytest

from .conftest import serving

KEY = "correct-horse-battery"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


def test_the_form_takes_the_key(browser, served):
    with serving(served, api_key=KEY, grace_seconds=0) as (address, _):
        page = browser.new_page()
        page.goto(f"{address}/")
        assert page.url == f"{address}/login"
        page.fill("input[type=password]", "wrong")
        page.click("button")
        assert "That is not the key." in page.inner_text("[role=alert]")
        page.fill("input[type=password]", KEY)
        page.click("button")
        page.wait_for_url(f"{address}/")
        assert "not_found" in page.content(), "there is no page here, but one may look"
        assert page.evaluate("document.cookie") == ""
        page.close()
