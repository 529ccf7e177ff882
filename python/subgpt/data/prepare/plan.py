"""What a preparation was begun with, so that it is gone on with the same or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subgpt import _core
from subgpt.data.prepare.manifest import NAME, read_manifest
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.units import size_of
from subgpt.errors import ConfigError, DataError

FOLDER = ".preparing"
"""Inside the output, until it is finished."""

_STAGING_VERSION = 1
_LOOSENED = {("errors", "strict", "replace"), ("bad_rows", "refuse", "skip")}
"""Options that may change on the way, as what is refused says itself: what was made before has nothing of the kind."""


def make_plan(
    files: Sequence[Path] | None, tokenizer: str, options: PrepareOptions, unit_bytes: int
) -> dict[str, Any]:
    """Write down all that decides about the result; `files` None: texts in memory, which cannot be recognised."""
    sources = None if files is None else [_file(path) for path in files]
    return {
        "version": _STAGING_VERSION,
        "tokenizer": tokenizer,
        "options": options.to_dict(),
        "unit_bytes": unit_bytes,
        "sources": sources,
    }


def _file(path: Path) -> list[Any]:
    return [str(path), size_of(path), path.stat().st_mtime_ns]


def keep_plan(staging: Path, plan: Mapping[str, Any], *, begun: bool) -> None:
    """Write the plan, or compare it with that of the preparation that is gone on with.

    begun: whether anything was made by the plan that is there; before that, another may take its place.

    Raises:
        ConfigError: An option or the tokenizer is another.
        DataError: The files are not those that it was begun with.

    """
    path = staging / "plan.json"
    if not path.exists() or not begun:
        _core.write_atomic(str(path), json.dumps(plan).encode())
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        _compare(before, json.loads(json.dumps(plan)), staging.parent)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError | DataError):
            raise
        raise DataError(f"{path}: damaged ({error}); begin anew with overwrite (--overwrite)") from None
    _core.write_atomic(str(path), json.dumps(plan).encode())  # with what was loosened


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    anew = "or begin anew with overwrite (--overwrite)"
    if before["version"] != now["version"] or before["unit_bytes"] != now["unit_bytes"]:
        raise ConfigError(
            f"{output}: another version of subgpt began this preparation; finish it with that, {anew}"
        )
    if before["tokenizer"] != now["tokenizer"]:
        raise ConfigError(
            f"{output}: this preparation was begun with another tokenizer; give that one, {anew}"
        )
    for name, value in now["options"].items():
        then = before["options"].get(name)
        if then != value and (name, then, value) not in _LOOSENED:
            raise ConfigError(
                f"{output}: this preparation was begun with {name} = {then!r}, now it is {value!r}; give the "
                f"same, {anew}"
            )
    if before["sources"] != now["sources"]:
        raise DataError(
            f"{output}: {_changed(before['sources'], now['sources'])}; give the same files, {anew}"
        )


def _changed(before: list[Any] | None, now: list[Any] | None) -> str:
    if before is None or now is None:
        return "this preparation was begun with " + ("texts in memory" if before is None else "files")
    for one, other in zip(before, now, strict=False):
        if one[0] != other[0]:
            return f"this preparation was begun with {one[0]}, where {other[0]} is now"
        if one != other:
            return f"{one[0]} was changed since the preparation began"
    return f"this preparation was begun with {len(before)} files, now there are {len(now)}"


def finished_before(
    output: Path, tokenizer: str, options: PrepareOptions, sources: Any
) -> dict[str, Any] | None:
    """Give the description of a set that is finished, if it is what is asked for; None if there is none.

    Of the sources, names and sizes are compared: a set names no time, and files that were fetched again are the same.

    Raises:
        ConfigError: There is one, of other sources, options or tokenizer.

    """
    if not (output / NAME).exists():
        return None
    made = read_manifest(output)
    anew = "name a new directory, or replace it with overwrite (--overwrite)"
    if made["tokenizer"]["fingerprint"] != tokenizer:
        raise ConfigError(f"{output}: was prepared with another tokenizer already; {anew}")
    for name, value in json.loads(json.dumps(options.to_dict())).items():
        if made.get("options", {}).get(name) != value:
            then = made.get("options", {}).get(name)
            raise ConfigError(f"{output}: was prepared with {name} = {then!r} already, not {value!r}; {anew}")
    if sources is None or [(row["file"], row["bytes"]) for row in made.get("sources", [])] != sources:
        raise ConfigError(f"{output}: was prepared from other sources already; {anew}")
    return made
