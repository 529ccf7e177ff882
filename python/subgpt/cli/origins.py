"""Where the settings of a command came from, a flag, a variable or a file, so that an error can name the place."""

import re
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher
from os import environ
from typing import Any

PREFIX = "SUBGPT_"
_NAMED = re.compile(r"\b([a-z][a-z0-9_]*) = ")
_LIKE = 0.85
_IN_FILE = "set in "
_origins: dict[str, str] = {}


def reset() -> None:
    """Forget the settings of an earlier command of this process."""
    _origins.clear()


def flag_of(name: str) -> str:
    """Give the flag of a setting.

    >>> flag_of("max_steps")
    '--max-steps'
    """
    return "--" + name.replace("_", "-")


def note_flags(ctx: Any, names: Iterable[str], values: dict[str, Any]) -> None:
    """Keep which settings were given by flags and which by variables."""
    for name in names:
        if values.get(name) is not None:
            in_variable = is_from_variable(ctx, name)
            _origins[name] = f"set by {variable_of(name) if in_variable else flag_of(name)}"


def note_file(file: object, names: Iterable[str]) -> None:
    """Keep which settings a file gives; a later file wins over an earlier one, flags and variables over all."""
    for name in names:
        if _origins.get(name, _IN_FILE).startswith(_IN_FILE):
            _origins[name] = f"{_IN_FILE}{file}"


def with_origins(line: str) -> str:
    """Add to a message that names settings, as `max_steps = 0`, where these came from."""
    found = [_origins[name] for name in _NAMED.findall(line) if name in _origins]
    return f"{line} ({', '.join(dict.fromkeys(found))})" if found else line


def variable_of(name: str) -> str:
    """Give the variable of a setting."""
    return PREFIX + name.upper()


def in_variable(name: str) -> dict[str, Any]:
    """Give what an option needs that can be set by the variable of its name, too."""
    return {"envvar": variable_of(name), "show_envvar": False}


def is_from_variable(ctx: Any, name: str) -> bool:
    """Tell whether a parameter of a command has its value from a variable."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "ENVIRONMENT"


def misspelt(known: Collection[str]) -> Iterable[tuple[str, str]]:
    """Find variables that mean nothing, and are almost the name of one that does; give both names."""
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            ratios = [(SequenceMatcher(None, variable, other).ratio(), other) for other in known]
            ratio, nearest = max(ratios, default=(0.0, ""))
            if ratio >= _LIKE:
                yield variable, nearest
