"""What came of a sweep's trials, and which was best."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FINISHED, DIVERGED, FAILED, DIED, INTERRUPTED, WAITING = (
    "finished", "diverged", "failed", "died", "interrupted", "waiting",
)  # fmt: skip
FINAL = (FINISHED, DIVERGED)
"""What a resumed sweep does not begin again: the same would come of it."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One trial: its number from 1, its values on the axes, what came of it, and where its run lies.

    status: "finished"; "diverged" (the loss was no number any more); "failed" (an error, in `reason`); "died" (its
    process ended without a word); "interrupted"; "waiting". val_loss: the lowest validation loss in nats per token,
    seen at best_step; None where there was none. train_loss: the mean of the last training losses.
    """

    trial: int
    values: Mapping[str, Any]
    status: str = WAITING
    val_loss: float | None = None
    best_step: int | None = None
    train_loss: float | None = None
    steps: int = 0
    seconds: float = 0.0
    parameters: int | None = None
    reason: str = ""
    run: Path | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], sweep: Path) -> "Outcome":
        """Undo `to_dict`; `run` is beside the sweep's files, wherever those were moved."""
        run = values.get("run")
        return cls(**{**values, "run": None if run is None else sweep / run})

    def to_dict(self, sweep: Path) -> dict[str, Any]:
        """Give every field as a plain value, `run` as seen from the sweep's directory."""
        run = None if self.run is None else self.run.relative_to(sweep).as_posix()
        return {**dataclasses.asdict(self), "values": dict(self.values), "run": run}

    @property
    def order(self) -> tuple[bool, float, int]:
        """What outcomes are sorted by: the finished by their loss, then the others."""
        ranked = self.status == FINISHED and self.val_loss is not None
        return not ranked, self.val_loss if ranked and self.val_loss is not None else math.inf, self.trial


@dataclasses.dataclass(frozen=True)
class Sweep:
    """All outcomes, the best first, and where they lie. interrupted: Ctrl-C ended it; it can be resumed."""

    outcomes: tuple[Outcome, ...]
    output_dir: Path
    axes: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def best(self) -> Outcome | None:
        """The finished trial with the lowest validation loss; None if there is none."""
        ranked = [seen for seen in self.outcomes if not seen.order[0]]
        return ranked[0] if ranked else None

    @property
    def counts(self) -> dict[str, int]:
        """How many trials there are of each status that occurs."""
        names = (FINISHED, DIVERGED, FAILED, DIED, INTERRUPTED, WAITING)
        counted = {name: sum(seen.status == name for seen in self.outcomes) for name in names}
        return {name: count for name, count in counted.items() if count}

    @property
    def report(self) -> Path:
        """`report.html` in the sweep's directory."""
        return self.output_dir / "report.html"

    def __str__(self) -> str:
        from subgpt.search.space import describe

        said = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        if self.best is not None and self.best.val_loss is not None:
            said += f"; best validation loss {self.best.val_loss:.4f}: {describe(self.best.values)}"
        return said
