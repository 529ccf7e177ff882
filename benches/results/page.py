"""Writes docs/results.md: every target, what was measured, and whether it is met; misses with their reasons.

The README's table has those with a headline; while one of them was not measured, that table stays as it is.

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

Every target that was set for subgpt, and what was measured: {met} of {all} are met, {partly} in part (some of their
tests were skipped), {missed} are missed, {open} were not measured. This page is written by `make results` from what the
benches found (`benches/results`), each of which has its date, machine and commit
[below](#commands-dates-and-machines): no figure is typed but those that are marked "recorded", and none is rounded in
our favour. Misses stay in the table, their reasons are [below](#what-is-missed-and-why), and so is what
[another machine missed](#met-here-missed-elsewhere). Curves, sample texts, what else was seen on the way, and earlier
figures of what was not measured here yet, are in [measurements.md](measurements.md), why things are as fast as they are
in [performance.md](performance.md).

The benches take hours and want a machine that does nothing else. Where there is a peer both sides take turns in one
run, and what both have to find alike is compared before anything is timed. A ratio is the median of the pairs, but for
three benches: `optimizer` compares the best times, `growth` takes the fastest step of each point, and `preparing` is
one run of each side, whose numbers of ids are compared after it.
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
    if missing := without_figure(targets, stored()):
        print(f"{README.name} stays as it is; these headlines were not measured: {'; '.join(missing)}")
    README.write_text(with_headlines(README.read_text(encoding="utf-8"), targets, stored()), encoding="utf-8")


def page(targets: list[Section], store: dict[str, Any]) -> str:
    """Write the page from targets and figures."""
    rows = {section.title: [Row(target, store) for target in section.targets] for section in targets}
    all_rows = [row for of_section in rows.values() for row in of_section]
    count = {mark: sum(row.mark == mark for row in all_rows) for mark in ("yes", "partly", "no", "")}
    counts = {"met": count["yes"], "partly": count["partly"], "missed": count["no"], "open": count[""]}
    parts = [HEAD.format(all=len(all_rows), **counts)]
    for section in targets:
        parts.append(f"\n## {section.title}\n\n" + (f"{section.text}\n\n" if section.text else ""))
        parts.append("| target | asked | measured | met | by |\n|---|---|---|---|---|\n")
        parts += [f"{row.line()}\n" for row in rows[section.title]]
    parts += ["\n## What is missed, and why\n\n", *reasons(all_rows)]
    parts += ["\n## Met here, missed elsewhere\n\n", *elsewhere(all_rows)]
    parts += ["\n## Commands, dates and machines\n\n", *commands(store, all_rows)]
    return "".join(parts)


def with_headlines(readme: str, targets: list[Section], store: dict[str, Any]) -> str:
    """Put the figures with a headline between the marks of the README, each with its command, once all are there."""
    if without_figure(targets, store):
        return readme
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [Row(target, store) for section in targets for target in section.targets if target.headline]
    lines = ["| what | measured | command |\n|---|---|---|\n"]
    for row in rows:
        command = as_typed(store[row.target.bench]["command"])
        if row.target.tests:
            command = f"pytest tests/{row.target.tests[0].partition('::')[0]}"
        lines.append(f"| {row.target.headline} | {row.measured()} | `{command}` |\n")
    return before + BEGIN + "".join(lines) + END + after


def without_figure(targets: list[Section], store: dict[str, Any]) -> list[str]:
    """Name the headlines that have no figure."""
    rows = [Row(target, store) for section in targets for target in section.targets if target.headline]
    return [row.target.headline for row in rows if not row.mark]


def as_typed(command: str) -> str:
    """Write a bench's command as one types it in a checkout."""
    places = {"{python}": "python", "{shared}": "../shared", "{work}/": "", "{wheel}": "dist/*.whl"}
    for place, words in {" --json {json}": "", " --junitxml={json}": "", **places}.items():
        command = command.replace(place, words)
    return command


class Row:
    """A target with its figure."""

    def __init__(self, target: Target, store: dict[str, Any]) -> None:
        self.target = target
        made = store.get(target.bench, {}).get("figures", {}).get(target.what)
        self.found: dict[str, Any] = made or target.recorded
        self.mark = self._mark()

    @property
    def is_recorded(self) -> bool:
        """Whether the figure is one that was typed."""
        return bool(self.found) and self.found is self.target.recorded

    def _mark(self) -> str:
        if not self.found or "busy" in self.found:
            return ""
        tests = self.found.get("tests", {})
        if tests and set(tests) == {"skipped"}:
            return ""
        failed = "failure" in tests or "error" in tests
        within = "value" not in self.found or self.target.asked.met(self.found["value"])
        if failed or not within:
            return "no"
        return "partly" if "skipped" in tests else "yes"

    def measured(self) -> str:
        """Say what was found."""
        if not self.found:
            return "not measured"
        if "busy" in self.found:
            return f"not measured (machine busy): `run.py {self.target.bench}`"
        above = "above " if self.found.get("above") else ""
        parts = [above + self.target.asked.show(self.found["value"])] if "value" in self.found else []
        names = {"failure": "failed", "error": "failed"}
        parts += [f"{count} {names.get(what, what)}" for what, count in self.found.get("tests", {}).items()]
        return ", ".join(parts)

    def line(self) -> str:
        skipped = self.found.get("tests", {}).get("skipped", 0)
        mark = {"no": "**no**", "partly": f"partly, {skipped} skipped"}.get(self.mark, self.mark)
        by = "recorded" if self.is_recorded else f"[{self.target.bench}](#commands-dates-and-machines)"
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
    ] or ["Nothing of what was measured.\n"]


def elsewhere(rows: Iterable[Row]) -> list[str]:
    """List what is met by these figures, and was not on another machine."""
    return [
        f"- **{row.target.what}**, asked {row.target.asked}: {' '.join(row.target.elsewhere.split())}\n"
        for row in rows
        if row.mark == "yes" and row.target.elsewhere
    ] or ["Nothing that is known.\n"]


def commands(store: dict[str, Any], rows: list[Row]) -> list[str]:
    """List how each figure was or will be made, and what takes too long for that with what was recorded of it."""
    lines = ["| name | command | date | minutes | machine | commit |\n|---|---|---|---|---|---|\n"]
    for name, bench in benches().items():
        if made := store.get(name):
            machine = f"{made['cores']} cores, {made['cpu']}, {made['isa']}"
            command = f"`{as_typed(made['command'])}`"
            command += f" (ended with {made['code']})" if made.get("code") else ""
            lines.append(
                f"| {name} | {command} | {made['date'][:10]} | {made['seconds'] / 60:.0f} | {machine} "
                f"| {commit(made['commit'])} |\n"
            )
        else:
            lines.append(f"| {name} | `{as_typed(bench.command)}` | not yet | | | |\n")
    for row in rows:
        if row.is_recorded:
            recorded = row.target.recorded
            lines.append(f"| {row.target.what} | `{recorded['command']}` | {recorded['date']} | | | |\n")
    return lines


def commit(name: str | None) -> str:
    """Shorten a commit; the mark of files that differed from it stays."""
    if name is None:
        return "unknown"
    hashed, plus, changes = name.partition("+")
    return hashed[:7] + plus + changes


if __name__ == "__main__":
    main()
