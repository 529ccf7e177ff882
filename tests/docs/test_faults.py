"""Every fault has tests that are there, or a written reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"faults": ROOT / "docs" / "faults.md", "security": ROOT / "SECURITY.md"}
QUOTED = re.compile(r"`([^`]+)`")


def rows(page: Path) -> list[list[str]]:
    """Give the cells of every row of the page's tables that has tests in its last one."""
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[-1].strip("| ") not in ("shown by", "tested by")]


def found(cell: str) -> int:
    """Count the tests that a cell names; an AssertionError for one that is not there."""
    content, count = "", 0
    for quoted in QUOTED.findall(cell):
        if quoted.endswith((".py", ".rs")):
            path = ROOT / quoted if quoted.startswith("rust/") else ROOT / "tests" / quoted
            assert path.is_file(), quoted
            content, count = path.read_text(encoding="utf-8"), count + quoted.startswith("fuzz/")
        else:
            assert content, f"{quoted} before a file"
            assert re.search(rf"\b(def test_\w*|fn \w*){re.escape(quoted)}", content), f"no test {quoted}"
            count += 1
    return count


@pytest.mark.parametrize("page", PAGES)
def test_every_row_names_tests_that_exist_or_a_reason(page):
    for row in rows(PAGES[page]):
        last = row[-1].strip("| ")
        assert found(last) or (not last and "Reason without a test: " in row[-2]), row


def test_no_fault_is_left_out():
    numbers = [int(row[0].strip("| ")) for row in rows(PAGES["faults"]) if row[0].strip("| ").isdigit()]
    assert numbers == list(range(1, 87))
