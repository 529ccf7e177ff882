"""Probes before and after a run: asked, told in a line, and kept in the run directory until it is over."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.load import read_json
from subgpt.checkpoint.run_directory import RunDirectory, write_json
from subgpt.errors import CheckpointError
from subgpt.evaluation.probes import Probe
from subgpt.evaluation.results import Miss, ProbeChange, ProbeResult

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

Note = Callable[[str], None]


def probe_before(
    model: "GPT",
    tokenizer: "Tokenizer",
    probes: Mapping[str, Probe],
    directory: RunDirectory | None,
    note: Note,
    *,
    fresh: bool,
) -> dict[str, ProbeChange]:
    """Ask before the first update, or read what was answered before it in the run that is resumed.

    A probe that was not asked then, or with other questions, has nothing before.
    """
    if not probes:
        return {}
    if not fresh:
        kept = {} if directory is None else _kept(directory)
        changes = {name: ProbeChange(kept.get((name, probe.fingerprint))) for name, probe in probes.items()}
        for name in (name for name, change in changes.items() if change.before is None):
            note(f"probe {name}: it was not asked before the first step, so only the end will be seen")
        return changes
    results = {name: _ask(model, tokenizer, name, probe, "before", note) for name, probe in probes.items()}
    if directory is not None:
        seen = [
            {"name": name, "fingerprint": probes[name].fingerprint, "result": dataclasses.asdict(result)}
            for name, result in results.items()
        ]
        write_json(directory.probes, seen)
    return {name: ProbeChange(result) for name, result in results.items()}


def probe_after(
    model: "GPT",
    tokenizer: "Tokenizer",
    probes: Mapping[str, Probe],
    changes: Mapping[str, ProbeChange],
    note: Note,
) -> dict[str, ProbeChange]:
    """Ask again at the end."""
    return {
        name: dataclasses.replace(changes[name], after=_ask(model, tokenizer, name, probe, "after", note))
        for name, probe in probes.items()
    }


def _ask(model: "GPT", tokenizer: "Tokenizer", name: str, probe: Probe, when: str, note: Note) -> ProbeResult:
    result = probe.measure(model, tokenizer)
    note(f"probe {name} {when}: {result}")
    return result


def _kept(directory: RunDirectory) -> dict[tuple[str, str], ProbeResult]:
    """Read what was answered before, by name and fingerprint; CheckpointError if the file holds something else."""
    if not directory.probes.exists():
        return {}
    try:
        return {
            (seen["name"], seen["fingerprint"]): _result(seen["result"])
            for seen in read_json(directory.probes)
        }
    except (TypeError, KeyError, ValueError):
        raise CheckpointError(
            f"{directory.probes}: holds no answers of a run; remove it, and only the end will be seen"
        ) from None


def _result(values: Mapping[str, Any]) -> ProbeResult:
    return ProbeResult(**{**values, "misses": tuple(Miss(**miss) for miss in values["misses"])})
