"""Options with a few values: these are completed by shells, and another one is refused with the nearest of them."""

from collections.abc import Callable, Sequence
from typing import Any

import typer

from subgpt.spelling import did_you_mean

Complete = Callable[[str], list[str]]


def one_of(values: Sequence[str], *flags: str, help: str, **settings: Any) -> Any:
    """Make an option that has one of `values`; an absent one is not looked at."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in values:
            raise typer.BadParameter(f"{value!r} is not known; {did_you_mean(value, values)}")
        return value

    return typer.Option(
        *flags,
        metavar="|".join(values),
        help=help,
        callback=check,
        autocompletion=completing(values),
        **settings,
    )


def completing(values: Sequence[str]) -> Complete:
    """Make what completes the values that begin as what is typed, each of several separated by commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{value}" for value in values if value.startswith(last)]

    return complete
