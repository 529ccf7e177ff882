"""The tutorial: its blocks run in order, in one folder; what is cheap prints what the page says; pictures are there.

Blocks that train are run with few steps and little data, so that only their running is seen. `make tutorial` runs them
in full and writes what they print into the page.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

import subgpt

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "tutorial.md").read_text(encoding="utf-8")
LARGEST = 60_000
"""Bytes of a picture, at most."""

SHORTER = {
    r"max_steps=\d+": "max_steps=3",
    r'"old_source": held_out': '"old_source": held_out[-1:]',
    r"tok, held_out\)": "tok, held_out[-1:])",
    r"replay=texts": "replay=texts[:2]",
    r"comments\[60:\]": "comments[60:90]",
    r"tok, facts\)": "tok, facts[:4])",
    r"tok, reworded\)": "tok, reworded[:4])",
    r"lessons\[::3\]\)": "lessons[:4])",
    r"range\(\d\d\)": "range(2)",
    r"range\(600\)": "range(20)",
}
"""What of the blocks that train, and of those after them, is made smaller."""


@pytest.fixture(scope="module")
def tool():
    """Give the program that makes the page."""
    spec = importlib.util.spec_from_file_location("make_tutorial", DOCS / "make_tutorial.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def shorter(code: str) -> str:
    for pattern, less in SHORTER.items():
        code = re.sub(pattern, less, code)
    return code


def test_every_block_runs_and_cheap_ones_print_what_the_page_says(tool, tmp_path, monkeypatch):
    for needed in ("matplotlib", "fastapi", "httpx"):
        pytest.importorskip(
            needed, reason=f"{needed}, of the extras that the tutorial needs, is not installed"
        )
    monkeypatch.setenv("SUBGPT_MAX_STEPS", "3")
    blocks = tool.blocks(PAGE)
    first = next(i for i, block in enumerate(blocks) if "max_steps=" in block.code)
    cheap = {block.code for block in blocks[:first]}
    ran = tool.run(blocks, tmp_path, lambda code: code if code in cheap else shorter(code))
    printed = list(ran)

    same_text = printed[0] == blocks[0].shown  # other Pythons have other texts
    same_bits = subgpt.isa() != "portable"  # which has no fused multiply-add
    for i in range(first):
        if same_bits and (same_text or "tiny_model(" in blocks[i].code):
            assert printed[i] == blocks[i].shown, blocks[i].code
    for block, said in zip(blocks, printed, strict=True):
        assert bool(said) == bool(block.shown), block.code
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {Path(name).name for name in tool.pictures(PAGE)}


def test_what_is_made_smaller_is_on_the_page():
    assert [pattern for pattern in SHORTER if not re.search(pattern, PAGE)] == []


def test_pictures_are_there_and_small(tool):
    assert len(tool.pictures(PAGE)) >= 7
    for name in tool.pictures(PAGE):
        assert (DOCS / name).read_bytes().startswith(b"\x89PNG")
        assert (DOCS / name).stat().st_size < LARGEST, name


def test_weaving_puts_outputs_after_their_blocks(tool):
    page = "a\n\n```python\nprint(1)\n```\n\n```text\nold\n```\n\nb\n\n```sh\ntrue\n```\n\n```sh notest\nls\n```\n"
    woven = tool.woven(page, ["1\n2\n", ""])
    assert woven == page.replace("old\n", "1\n2\n")
    assert tool.woven(woven, ["", "x\n"]).count("```text") == 1
    assert [block.shown for block in tool.blocks(woven)] == ["1\n2\n", ""]
    assert tool.woven(PAGE, [block.shown for block in tool.blocks(PAGE)]) == PAGE
