"""Figures out of what benches found: for each target a number, that there was none, or how its tests ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jmespath
from targets import HERE, Section, Target

STORE = HERE / "figures.json"
"""What the page is written from: small enough to be kept, unlike all that the benches found."""
ABOUT = ("command", "date", "seconds", "code", "cpu", "cores", "isa", "commit", "versions")


def gather(folder: Path, sections: list[Section]) -> dict[str, Any]:
    """Give the figures of all targets whose benches are in the folder, by bench."""
    store: dict[str, Any] = {}
    for target in (target for section in sections for target in section.targets):
        path = folder / f"{target.bench}.json"
        if not target.bench or not path.exists():
            continue
        kept = json.loads(path.read_text(encoding="utf-8"))
        about = {name: kept[name] for name in ABOUT if name in kept}
        bench = store.setdefault(target.bench, {**about, "figures": {}})
        bench["figures"][target.what] = (
            tested(target, kept["found"]) if target.tests else measured(target, kept)
        )
    return store


def measured(target: Target, kept: dict[str, Any]) -> dict[str, Any]:
    """Give the worst number that the target's expression has, or that one of them could not be measured.

    A bench writes null where the machine was too busy for a figure. The others would not be the worst ones then.
    """
    found = {"seconds": kept["seconds"]} if target.figure == "seconds" else nothing_as_text(kept["found"])
    values = numbers(target, target.figure, found)
    others = [numbers(target, one, found) for one in (target.minus, target.over) if one]
    if None in [*values, *(other[0] for other in others)]:
        return {"busy": True}
    value = target.asked.worst(values) * target.scale
    if target.minus:
        value -= numbers(target, target.minus, found)[0] * target.scale
    if target.over:
        value /= numbers(target, target.over, found)[0]
    above = bool(target.above and jmespath.search(target.above, found))
    return {"value": value, **({"above": True} if above else {})}


def numbers(target: Target, expression: str, found: Any) -> list[Any]:
    """Give the numbers that an expression finds, None for one that was not measured."""
    seen = jmespath.search(expression, found)
    values = [one for one in (seen if isinstance(seen, list) else [seen]) if one is not None]
    if not values:
        raise ValueError(f"{target.what}: {expression} finds nothing in what {target.bench} found")
    return [None if one == "" else float(one) for one in values]


def nothing_as_text(found: Any) -> Any:
    """Put "" for every null: JMESPath gives null for what is absent too, and leaves it out of lists."""
    if isinstance(found, dict):
        return {name: nothing_as_text(value) for name, value in found.items()}
    if isinstance(found, list):
        return [nothing_as_text(value) for value in found]
    return "" if found is None else found


def tested(target: Target, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Count the tests that the target names, and give the largest difference that they told."""
    mine = []
    for name in target.tests:
        found = [case for case in cases if case["name"].startswith(name)]
        if not found:
            raise ValueError(f"{target.what}: no test begins with {name}")
        mine += found
    counts = {
        outcome: sum(case["outcome"] == outcome for case in mine)
        for outcome in ("passed", "failure", "error", "skipped")
    }
    result: dict[str, Any] = {"tests": {outcome: count for outcome, count in counts.items() if count}}
    if target.largest:
        result["value"] = max(case["told"][target.largest] for case in mine if target.largest in case["told"])
    return result


def stored() -> dict[str, Any]:
    """Read what was gathered last."""
    return json.loads(STORE.read_text(encoding="utf-8"))


def keep(store: dict[str, Any]) -> None:
    """Write what was gathered, beside what stays of benches that were not run."""
    before = stored() if STORE.exists() else {}
    text = json.dumps({**before, **store}, indent=1, sort_keys=True)
    STORE.write_text(text + "\n", encoding="utf-8")
