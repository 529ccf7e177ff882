"""A sweep's directory, and what of it is planned: `sweep.json`, from which each trial's process reads what to do.

sweep.json  results.json  results.csv  report.html  tokenizer/
trials/001.json     what came of a trial, written by its process
runs/001/           its run directory      logs/001.txt     what it said
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from subgpt.checkpoint.run_directory import naming, write_json
from subgpt.errors import CheckpointError, ConfigError
from subgpt.places import expanded
from subgpt.search.base import Base
from subgpt.search.outcomes import Outcome
from subgpt.search.space import Values


class SweepDirectory:
    """The names inside a sweep's directory. Making one touches nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path).resolve()
        self.plan = self.path / "sweep.json"
        self.lock = self.path / "trials" / "lock"
        self.results = self.path / "results.json"
        self.table = self.path / "results.csv"
        self.report = self.path / "report.html"
        self.tokenizer = self.path / "tokenizer"

    def create(self) -> None:
        """Make the folders; OutputError if that cannot be."""
        with naming(self.path):
            for name in ("trials", "runs", "logs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)

    def outcome(self, trial: int) -> Path:
        """Where the outcome of a trial is written."""
        return self.path / "trials" / f"{trial:03}.json"

    def run(self, trial: int) -> Path:
        """The run directory of a trial."""
        return self.path / "runs" / f"{trial:03}"

    def log(self, trial: int) -> Path:
        """What a trial's process said."""
        return self.path / "logs" / f"{trial:03}.txt"

    def read_outcome(self, trial: int, values: Values) -> Outcome:
        """Give what came of a trial so far; one that wrote nothing, or half of it, is waiting."""
        try:
            return Outcome.from_dict(json.loads(self.outcome(trial).read_text(encoding="utf-8")), self.path)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return Outcome(trial, values)

    def write_outcome(self, seen: Outcome) -> None:
        """Keep what came of a trial, atomically."""
        write_json(self.outcome(seen.trial), seen.to_dict(self.path))


@dataclass(frozen=True)
class Plan:
    """What all trials share, and what each of them has of its own; trial number n is `trials[n - 1]`."""

    base: Base
    axes: tuple[str, ...]
    trials: tuple[Values, ...] = field(default=())

    @classmethod
    def read(cls, directory: SweepDirectory) -> "Plan":
        """Read the plan of a sweep; CheckpointError where there is none."""
        try:
            values = json.loads(directory.plan.read_text(encoding="utf-8"))
            return cls(Base.from_dict(values["base"]), tuple(values["axes"]), tuple(values["trials"]))
        except FileNotFoundError:
            raise CheckpointError(
                f"{directory.path}: no sweep to resume there; check output_dir, or start without resume"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{directory.plan}: not the plan of a sweep: {error}") from None

    def write(self, directory: SweepDirectory) -> None:
        """Keep the plan, atomically."""
        values = {"base": self.base.to_dict(), "axes": list(self.axes), "trials": list(self.trials)}
        write_json(directory.plan, values)

    def extended(self, axes: Sequence[str], trials: Sequence[Values]) -> "Plan":
        """Add trials that are not there yet; those that are keep their numbers."""
        known = {json.dumps(values, sort_keys=True) for values in self.trials}
        new = [values for values in trials if json.dumps(values, sort_keys=True) not in known]
        names = (*self.axes, *(name for name in axes if name not in self.axes))
        return replace(self, axes=names, trials=(*self.trials, *new))

    def refuse_changes(self, given: Mapping[str, Any], place: Path) -> None:
        """Raise ConfigError naming the first setting of `given` that is another one than planned."""
        planned = self.base.flat()
        for name, value in json.loads(json.dumps(dict(given))).items():
            if planned.get(name) != value:
                raise ConfigError(
                    f"resume {place}: {name} was {planned.get(name)!r}, is {value!r}; leave it out to go on, or start "
                    "a new sweep"
                )
