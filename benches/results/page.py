"""Writes docs/results.md: every target, what was measured, and whether it is met; misses with their reasons.

The README's table has those with a headline.

python benches/results/page.py                          # from the figures that are kept, figures.json
python benches/results/page.py --folder runs/results    # takes what `run.py` made before
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from figures import gather, keep, stored
from targets import Section, Target, benches, sections

ROOT = Path(__file__).resolve().parents[2]
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->"
HEAD = """# Results

Every target that was set for subgpt, and what was measured: {met} of {all} are met, {missed} are missed, {open} were
not measured. This page is written by `make results` from one run of the benches (`benches/results`): no figure is
typed, and none is rounded in our favour. Misses stay in the table, their reasons are
[below](#what-is-missed-and-why). Curves, sample texts and what else was seen on the way are in
[measurements.md](measurements.md), why things are as fast as they are in [performance.md](performance.md).

The benches take hours and want a machine that does nothing else. Where there is a peer both sides take turns in one
run, results are compared before anything is timed, and a figure is the median of the pairs.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="what run.py made; its figures are kept first")
    args = parser.parse_args()
    targets = sections()
    if args.folder:
        keep(gather(args.folder, targets))
    PAGE.write_text(page(targets, stored()), encoding="utf-8")
    README.write_text(with_headlines(README.read_text(encoding="utf-8"), targets, stored()), encoding="utf-8")


def page(targets: list[Section], store: dict[str, Any]) -> str:
    """Write the page from targets and figures."""
    rows = {section.title: [Row(target, store) for target in section.targets] for section in targets}
    all_rows = [row for of_section in rows.values() for row in of_section]
    count = {mark: sum(row.mark == mark for row in all_rows) for mark in ("yes", "no", "")}
    parts = [HEAD.format(all=len(all_rows), met=count["yes"], missed=count["no"], open=count[""])]
    for section in targets:
        parts.append(f"\n## {section.title}\n\n" + (f"{section.text}\n\n" if section.text else ""))
        parts.append("| target | asked | measured | met | by |\n|---|---|---|---|---|\n")
        parts += [f"{row.line()}\n" for row in rows[section.title]]
    parts += ["\n## What is missed, and why\n\n", *reasons(all_rows)]
    parts += ["\n## Commands, dates and machines\n\n", *commands(store, all_rows)]
    return "".join(parts)


def with_headlines(readme: str, targets: list[Section], store: dict[str, Any]) -> str:
    """Put the figures with a headline between the marks of the README, each with its command."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [Row(target, store) for section in targets for target in section.targets if target.headline]
    lines = ["| what | measured | command |\n|---|---|---|\n"]
    for row in rows:
        command = benches()[row.target.bench].command.replace("{python}", "python")
        for place, words in (
            ("{shared}", "../shared"),
            (" --json {json}", ""),
            ("{work}/", ""),
            ("{wheel}", "dist/*.whl"),
        ):
            command = command.replace(place, words)
        if row.target.tests:
            command = f"pytest tests/{row.target.tests[0].partition('::')[0]}"
        lines.append(f"| {row.target.headline} | {row.measured()} | `{command}` |\n")
    return before + BEGIN + "".join(lines) + END + after


class Row:
    """A target with its figure."""

    def __init__(self, target: Target, store: dict[str, Any]) -> None:
        self.target = target
        made = store.get(target.bench, {}).get("figures", {}).get(target.what)
        self.found: dict[str, Any] = made or target.recorded
        self.mark = self._mark()

    def _mark(self) -> str:
        if not self.found:
            return ""
        tests = self.found.get("tests", {})
        failed = "failure" in tests or "error" in tests or (tests and "passed" not in tests)
        within = "value" not in self.found or self.target.asked.met(self.found["value"])
        return "yes" if within and not failed else "no"

    def measured(self) -> str:
        """Say what was found."""
        if not self.found:
            return "not measured"
        parts = [self.target.asked.show(self.found["value"])] if "value" in self.found else []
        names = {"failure": "failed", "error": "failed"}
        parts += [f"{count} {names.get(what, what)}" for what, count in self.found.get("tests", {}).items()]
        return ", ".join(parts)

    def line(self) -> str:
        mark = {"yes": "yes", "no": "**no**", "": ""}[self.mark]
        by = f"[{self.target.bench}](#commands-dates-and-machines)" if self.target.bench else "recorded"
        return f"| {self.target.what} | {self.target.asked} | {self.measured()} | {mark} | {by} |"


def reasons(rows: Iterable[Row]) -> list[str]:
    """List what is missed, each with its cause; a miss without one is an error."""
    missed = [row for row in rows if row.mark == "no"]
    if silent := [row.target.what for row in missed if not row.target.why]:
        raise SystemExit(f"these are missed, and targets.yaml does not say why: {'; '.join(silent)}")
    return [
        f"- **{row.target.what}**: {row.measured()}, asked {row.target.asked}."
        f" {' '.join(row.target.why.split())}\n"
        for row in missed
    ] or ["Nothing.\n"]


def commands(store: dict[str, Any], rows: list[Row]) -> list[str]:
    """List how each figure was made, and what takes too long for that with what was recorded of it."""
    lines = ["| name | command | date | minutes | machine | commit |\n|---|---|---|---|---|---|\n"]
    for name, bench in benches().items():
        if made := store.get(name):
            machine = f"{made['cores']} cores, {made['cpu']}, {made['isa']}"
            command = bench.command.replace("{python}", "python")
            lines.append(
                f"| {name} | `{command}` | {made['date'][:10]} | {made['seconds'] / 60:.0f} | {machine} "
                f"| {made['commit'][:7]} |\n"
            )
    for row in rows:
        if recorded := row.target.recorded:
            lines.append(f"| {row.target.what} | `{recorded['command']}` | {recorded['date']} | | | |\n")
    return lines


if __name__ == "__main__":
    main()
