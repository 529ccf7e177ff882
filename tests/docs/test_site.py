"""What the site changes of pages before it reads them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(DOCS.glob("*.md"))


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_out_of_the_pages_become_names(hooks):
    assert hooks.on_page_markdown("[rules](../SECURITY.md) and [data](data.md)") == (
        "rules (`SECURITY.md`) and [data](data.md)"
    )


@pytest.mark.parametrize("start", [DOCS.parent / "README.md", DOCS / "index.md"], ids=lambda page: page.name)
def test_every_page_is_named_where_readers_start(start):
    linked = {
        Path(target).name for target in re.findall(r"\]\(([^)#]+)\)", start.read_text(encoding="utf-8"))
    }
    assert {page.name for page in PAGES} - linked == {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_begins_as_the_site_knows_it(hooks, page):
    read = hooks.on_page_markdown(page.read_text(encoding="utf-8"))
    fences = re.findall(r"^\s*```(.*)$", read, re.MULTILINE)
    assert [name for name in fences if not re.fullmatch(r"\w*", name)] == []
    assert len(fences) % 2 == 0
