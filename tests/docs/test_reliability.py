"""Every test that the page on reliability names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def files() -> dict[str, str]:
    """Give the content of each file of tests by the letter that the page has for it."""
    (legend,) = re.findall(r"^Tests are in `tests/`: (.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    named = re.findall(r"\b([A-Z])(?: is|,)? `([\w/]+\.py)`", " ".join(legend.split()))
    return {letter: (ROOT / "tests" / name).read_text(encoding="utf-8") for letter, name in named}


def rows() -> list[str]:
    table = PAGE[PAGE.index("| fault |") :].split("\n\n")[0]
    return [
        line.rstrip("| ").rpartition(" | ")[2] for line in table.splitlines()[2:] if line.startswith("| ")
    ]


def test_every_fault_names_tests_that_exist():
    known = files()
    assert len(known) == 8
    assert len(rows()) > 25
    for row in rows():
        letter, found = "", 0
        for word, quoted in re.findall(r"\b([A-Z])\b|`([^`]+)`", row):
            letter = word or letter
            if quoted.endswith(".py"):
                found += (ROOT / "tests" / quoted).is_file() or (ROOT / quoted).is_file()
            elif quoted:
                assert re.search(rf"def test_\w*{quoted}", known[letter]), f"{letter} has no {quoted}"
                found += 1
            else:
                found += letter in known
        assert found, row
