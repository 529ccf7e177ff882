"""`Run`: what training gives back, and what a saved run can be read into."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.errors import MissingFileError
from subgpt.training.metrics import read_metrics
from subgpt.units import duration

if TYPE_CHECKING:
    from subgpt.checkpoint.run_directory import RunDirectory
    from subgpt.evaluation.measure import Evaluation
    from subgpt.evaluation.results import ProbeChange


@dataclass
class Run:
    """The course of a run and where it lies.

    tokens: targets learnt from so far, in `unit`: "tokens", or of `dpo` "pairs". Losses are means over them.
    steps, losses, learning_rates, grad_norms: one entry an update (of a loaded or resumed run, those that
    `metrics.jsonl` has): its number from 1, the mean loss in nats before it. val_steps, val_losses: one entry a
    validation. best: the lowest validation loss (inf without validation), seen at best_step. before, after:
    `Evaluation` by the data's name ("new", "old"), filled by fine-tuning; after is empty of a run that was interrupted.
    probes: `ProbeChange` by the probe's name, likewise. output_dir: the run directory, or None. interrupted: stopped by
    Ctrl-C, SIGTERM or SIGHUP. stopped_early: no gain within the patience. rollbacks: the lines of `metrics.jsonl` that
    say how the run went back when its loss left its course; the other entries are without what was dropped by that.
    error: what ended the run by force; callbacks see it, the caller gets it raised.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    val_steps: list[int] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    best: float = math.inf
    best_step: int = 0
    step: int = 0
    max_steps: int = 0
    tokens: int = 0
    unit: str = "tokens"
    seconds: float = 0.0
    output_dir: Path | None = None
    checkpoint: Path | None = None
    interrupted: bool = False
    stopped_early: bool = False
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    error: BaseException | None = None
    before: dict[str, "Evaluation"] = field(default_factory=dict)
    after: dict[str, "Evaluation"] = field(default_factory=dict)
    probes: dict[str, "ProbeChange"] = field(default_factory=dict)

    @classmethod
    def load(cls, output_dir: str | Path) -> "Run":
        """Read the course of a finished or broken run from its `training/metrics.jsonl`.

        Raises MissingFileError if there is no such file.
        """
        directory = _directory(output_dir)
        if not directory.metrics.is_file():
            raise MissingFileError(f"{directory.metrics}: no such file; give the output_dir of a run")
        run = cls(output_dir=directory.path, unit=_unit(directory))
        for record in read_metrics(directory.metrics):
            run.add(record)
        return run

    def add(self, record: dict[str, Any]) -> None:
        """Take in one line of `metrics.jsonl`."""
        self.step = record["step"]
        self.seconds = record.get("seconds", self.seconds)
        if "rollback" in record:
            self.rollbacks.append(record)
        if "loss" in record:
            self.steps.append(record["step"])
            self.losses.append(record["loss"])
            self.learning_rates.append(record["learning_rate"])
            self.grad_norms.append(record["grad_norm"])
        if "val_loss" in record:
            self.val_steps.append(record["step"])
            self.val_losses.append(record["val_loss"])
            if record["val_loss"] < self.best:
                self.best, self.best_step = record["val_loss"], record["step"]

    def go_back(self, step: int) -> None:
        """Forget the updates beyond `step`, and validations made after them; that before the first is made again."""
        made = sum(number <= step for number in self.steps)
        for entries in (self.steps, self.losses, self.learning_rates, self.grad_norms):
            del entries[made:]
        measured = sum(number <= step for number in self.val_steps) if step else 0
        del self.val_steps[measured:], self.val_losses[measured:]
        self.step = step

    @property
    def metrics_path(self) -> Path | None:
        """`training/metrics.jsonl` of the run directory, or None."""
        return None if self.output_dir is None else _directory(self.output_dir).metrics

    @property
    def plot_path(self) -> Path | None:
        """`training/loss.png` of the run directory, or None."""
        return None if self.output_dir is None else _directory(self.output_dir).plot

    def plot(self, path: str | Path | None = None) -> Path:
        """Draw the losses into `path` (PNG, SVG or PDF), and give where that is; needs the extra `plot`.

        Without a path it is the run directory's `loss.png`, or `loss.png` in the working directory where the run has
        none.
        """
        from subgpt.training.plot import panel_of, save_loss_plot

        target = self.plot_path if path is None else Path(path)
        return save_loss_plot([panel_of(self, "Loss")], Path("loss.png") if target is None else target)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        from subgpt.training.plot import loss_figure, panel_of, shown

        return shown(str(self), lambda: loss_figure([panel_of(self, "Loss")]))

    def __str__(self) -> str:
        parts = [f"{self.step} steps in {duration(self.seconds)}"]
        if self.losses:
            parts.append(f"loss {self.losses[0]:.4f} -> {self.losses[-1]:.4f}")
        if self.val_losses:
            parts.append(f"best validation loss {self.best:.4f} at step {self.best_step}")
        if self.error is not None:
            parts.append(f"ended by {type(self.error).__name__}")
        if self.rollbacks:
            count = len(self.rollbacks)
            parts.append("rolled back once" if count == 1 else f"rolled back {count} times")
        if self.interrupted:
            parts.append("interrupted")
        if self.stopped_early:
            parts.append("stopped early")
        if self.output_dir is not None:
            parts.append(f"in {self.output_dir}")
        return ", ".join(parts)


def _unit(directory: "RunDirectory") -> str:
    """Look up what the losses of a run are means over, by the verb in its settings; of damaged ones, tokens."""
    try:
        settings = directory.settings.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "tokens"
    # One line of a file that we write: pages load runs every few seconds, and parsing all of it takes longer.
    return "pairs" if "verb: dpo" in settings.splitlines() else "tokens"


def _directory(output_dir: str | Path) -> "RunDirectory":
    from subgpt.checkpoint.run_directory import RunDirectory

    return RunDirectory(output_dir)
