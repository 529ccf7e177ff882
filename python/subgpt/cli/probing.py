"""Probes on the command line: files with names, and what was found out with them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from subgpt.cli.loading import source_paths
from subgpt.cli.options import source_option
from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from subgpt.evaluation.results import ProbeResult
    from subgpt.training.run import Run

_NAMED = re.compile(r"([A-Za-z][\w-]*)=(.+)", re.DOTALL)

Probes = Annotated[
    list[str] | None,
    source_option(
        "--probe",
        "Questions to ask, rows as for --data; may be repeated, each under a name.",
        metavar="[NAME=]FILE",
    ),
]


def named_files(given: Any) -> dict[str, Path]:
    """Give the file of each probe by its name: the one before a `=`, else the file's own without its ending.

    given: one or several of these, or names with files, as a config.yaml has them; None for no probe.

    Raises ConfigError if two have the same name, or if a settings file has something else there.

    >>> [*named_files(["seen=a.jsonl", "b.jsonl"])]
    ['seen', 'b']
    """
    entries = [given] if isinstance(given, str) else given or []
    words = [*entries, *entries.values()] if isinstance(entries, Mapping) else entries
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(
            f"probe = {given!r}: expected files, or names with files, such as 'seen: facts.jsonl'"
        )
    if isinstance(entries, Mapping):
        return {name: source_paths([file])[0] for name, file in entries.items()}
    files: dict[str, Path] = {}
    for entry in entries:
        match = None if Path(entry).exists() else _NAMED.fullmatch(entry)
        path = source_paths([match[2] if match else entry])[0]
        name = match[1] if match else path.name.split(".")[0]
        if name in files:
            raise ConfigError(
                f"--probe {entry}: there is a probe {name!r} already; name it: --probe other={path}"
            )
        files[name] = path
    return files


def print_probes(run: "Run") -> None:
    """Print what probes showed before and after fine-tuning."""
    from subgpt.cli.terminal import out

    if run.probes:
        out().print(probes_table(run))


def probes_table(run: "Run") -> "Table":
    """Lay out what was right before and after."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("probe")
    for name in ("before", "after"):
        table.add_column(name, justify="right")
    for name, change in run.probes.items():
        table.add_row(name, *("" if seen is None else str(seen) for seen in (change.before, change.after)))
    return table


def print_answers(results: "Mapping[str, ProbeResult]") -> None:
    """Print what was right, and some of what was not."""
    from rich.text import Text

    from subgpt.cli.terminal import harmless, out

    for name, result in results.items():
        out().print(Text(harmless(f"{name}: {result}")))
        for miss in result.misses:
            for label, text in (
                ("asked", miss.question),
                ("expected", miss.expected),
                ("answered", miss.answered),
            ):
                out().print(Text(f"  {label:<9} {harmless(' '.join(text.split()))}", style="dim"))


def as_json(results: "Mapping[str, ProbeResult]") -> dict[str, Any]:
    """Give results as plain values."""
    from dataclasses import asdict

    return {name: {**asdict(result), "accuracy": result.accuracy} for name, result in results.items()}
