"""No `unsafe` without its reason, and none in the bindings; clippy denies it too, where it runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("rust", "benches") for path in (ROOT / folder).rglob("*.rs"))
BLOCK = re.compile(r"\bunsafe\s*(\{|impl\b)")
# Functions of private traits have theirs where the trait is.
FUNCTION = re.compile(r"^\s*pub(\([^)]*\))?\s+(const\s+)?unsafe\s+(extern\s+\"C\"\s+)?fn\b")
NEAR = 12
"""Lines above an `unsafe` in which its reason stands: a statement may be long."""


def above(lines: list[str], at: int) -> str:
    return "\n".join(lines[max(0, at - NEAR) : at + 1])


def documentation(lines: list[str], at: int) -> str:
    """Give the comments and attributes directly above a line."""
    start = at
    while start and lines[start - 1].strip().startswith(("//", "#[")):
        start -= 1
    return "\n".join(lines[start:at])


def test_every_unsafe_has_its_reason():
    seen, bare = 0, []
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for at, line in enumerate(lines):
            code = line.split("//")[0]
            if BLOCK.search(code):
                reason = "SAFETY:" in above(lines, at)
            elif FUNCTION.search(code):
                reason = re.search(r"# Safety|SAFETY:", documentation(lines, at))
            else:
                continue
            seen += 1
            if not reason:
                bare.append(f"{path.relative_to(ROOT)}:{at + 1}: {line.strip()}")
    assert seen > 20
    assert bare == []


def test_the_compiler_refuses_it_in_the_bindings_and_clippy_without_a_reason():
    assert "#![forbid(unsafe_code)]" in (ROOT / "rust/python/src/lib.rs").read_text(encoding="utf-8")
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    for lint in ("undocumented_unsafe_blocks", "missing_safety_doc", "unsafe_op_in_unsafe_fn"):
        assert f'{lint} = "deny"' in manifest
    for crate in ("core", "python", "checks", "testkit"):
        text = (ROOT / "rust" / crate / "Cargo.toml").read_text(encoding="utf-8")
        assert "[lints]\nworkspace = true" in text, crate
