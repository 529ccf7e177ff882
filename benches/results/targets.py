"""The targets and benches as data: what `targets.yaml` and `benches.yaml` say, checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
UNITS = {"": 1, "x": 1, "nats": 1, "s": 1, "%": 100, "ms": 1e3, "minutes": 1 / 60, "MB": 1e-6}
"""By what a plain figure (a share, seconds, bytes) is multiplied."""


@dataclass(frozen=True)
class Asked:
    """A bound on a figure. None: tests have to pass, and there is no number."""

    how: str
    bound: float | None = None
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> Asked:
        """Read "at least 2.5 x", "at most 1e-4", "below 60 ms" or "all pass"."""
        if text == "all pass":
            return cls(text)
        match = re.fullmatch(r"(at least|at most|below) ([\d.e+-]+)(?: (\S+))?", text)
        if not match or (match[3] or "") not in UNITS:
            raise ValueError(f"{text!r} is no target; say as 'at least 2.5 x', units of {sorted(UNITS)}")
        return cls(match[1], float(match[2]), match[3] or "")

    def __str__(self) -> str:
        return self.how if self.bound is None else f"{self.how} {self.bound:g} {self.unit}".strip()

    def met(self, value: float) -> bool:
        """Tell whether a plain figure is within the bound."""
        assert self.bound is not None
        shown = value * UNITS[self.unit]
        if self.how == "at least":
            return shown >= self.bound
        return shown <= self.bound if self.how == "at most" else shown < self.bound

    def show(self, value: float) -> str:
        """Write a plain figure in the unit of the bound, in three digits that are never rounded in our favour."""
        shown = value * UNITS[self.unit]
        return f"{rounded(shown, up=self.how != 'at least')} {self.unit}".strip()

    def worst(self, values: list[float]) -> float:
        """Give the one that is nearest to, or farthest beyond, the bound."""
        return min(values) if self.how == "at least" else max(values)


def rounded(value: float, *, up: bool, digits: int = 3) -> str:
    """Write a number in some digits, rounded up or down."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    place = math.floor(math.log10(abs(value))) - digits + 1
    # Twelve digits are kept first: 0.3 * 100 is not to become 30.1.
    steps = float(f"{value / 10.0**place:.9g}")
    whole = (math.ceil if up else math.floor)(steps)
    if abs(value) < 1e-3:
        return f"{whole * 10.0**place:.{digits - 1}e}"
    return f"{whole * 10.0**place:,.{max(0, -place)}f}"


@dataclass(frozen=True)
class Target:
    """A row of the table."""

    what: str
    asked: Asked
    bench: str
    figure: str = ""
    over: str = ""
    minus: str = ""
    above: str = ""
    scale: float = 1
    tests: tuple[str, ...] = ()
    largest: str = ""
    headline: str = ""
    recorded: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    elsewhere: str = ""


@dataclass(frozen=True)
class Section:
    """Targets under one title."""

    title: str
    text: str
    targets: list[Target]


@dataclass(frozen=True)
class Bench:
    """How figures are made."""

    name: str
    command: str
    lines: str = ""
    junit: bool = False
    needs: tuple[str, ...] = ()
    after: str = ""


def sections() -> list[Section]:
    """Read targets.yaml."""
    found = yaml.safe_load((HERE / "targets.yaml").read_text(encoding="utf-8"))
    return [
        Section(one["section"], one.get("text", ""), [_target(row) for row in one["rows"]]) for one in found
    ]


def _target(row: dict[str, Any]) -> Target:
    bench = "tests" if "tests" in row else row.get("bench", "")
    asked = Asked.parse(row["asked"])
    if not (bench or "recorded" in row):
        raise ValueError(f"{row['what']}: no bench, no tests and nothing recorded")
    tests = _named_in(row["tests"]) if isinstance(row.get("tests"), str) else tuple(row.get("tests", ()))
    return Target(**{**row, "asked": asked, "bench": bench, "tests": tests})


def _named_in(page: str) -> tuple[str, ...]:
    """Give the files of tests in Python that a page names."""
    text = (HERE.parents[1] / page).read_text(encoding="utf-8")
    return tuple(sorted(set(re.findall(r"`((?:\w+/)+test_\w+\.py)`", text))))


def benches() -> dict[str, Bench]:
    """Read benches.yaml."""
    found = yaml.safe_load((HERE / "benches.yaml").read_text(encoding="utf-8"))
    return {name: _bench(name, row) for name, row in found.items()}


def _bench(name: str, row: dict[str, Any]) -> Bench:
    command = row.pop("run", None) or f"{{python}} {row.pop('command')}"
    return Bench(name, " ".join(command.split()), needs=tuple(row.pop("needs", ())), **row)
