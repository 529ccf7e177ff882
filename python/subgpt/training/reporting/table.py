"""`training/metrics.csv`: what `metrics.jsonl` has, as a table for spreadsheets and pandas.

A row is an update or a validation, as a line of `metrics.jsonl` is; the columns of the other stay empty, and `seconds`
of a validation are those of the update before it. On resume, and where a run goes back to a checkpoint, rows beyond its
step are dropped.
"""

import csv
import io
from typing import IO, TYPE_CHECKING, Any

from subgpt import _core
from subgpt.checkpoint.run_directory import RunDirectory, naming
from subgpt.training.callbacks import Callback

if TYPE_CHECKING:
    from subgpt.training.callbacks import EvalEvent, RollbackEvent, RunStart, StepEvent
    from subgpt.training.config import TrainConfig
    from subgpt.training.run import Run

COLUMNS = (
    "step", "seconds", "loss", "learning_rate", "grad_norm", "tokens_per_second",
    "val_loss", "val_perplexity", "val_bits_per_byte",
)  # fmt: skip


class CsvReporter(Callback):
    """Appends rows while the run goes on; they reach the system at once."""

    def __init__(self, config: "TrainConfig") -> None:
        self.path = RunDirectory(config.output_dir or ".").table
        self.every = config.logging_steps
        self._seconds = 0.0
        self._file: IO[str] | None = None

    def on_start(self, start: "RunStart") -> None:
        """Open the table, keeping the rows up to the step where the run begins."""
        self._open(start.step)

    def on_rollback(self, event: "RollbackEvent") -> None:
        """Drop the rows beyond the step to which the run went back."""
        if self._file is not None:
            self._file.close()
        self._open(event.step)

    def on_step(self, event: "StepEvent") -> None:
        """Add the row of an update, as often as `metrics.jsonl` does."""
        self._seconds = event.seconds
        if event.step % self.every == 0 or event.step == event.max_steps:
            row = {name: getattr(event, name) for name in COLUMNS[:6]}
            self._add({**row, "tokens_per_second": round(event.tokens_per_second, 1)})

    def on_eval(self, event: "EvalEvent") -> None:
        """Add the row of a validation."""
        seen = event.evaluation
        values = {"val_loss": seen.loss, "val_perplexity": seen.perplexity}
        self._add({"step": event.step, **values, "val_bits_per_byte": seen.bits_per_byte})

    def on_end(self, run: "Run") -> None:
        """Close the table."""
        del run
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, row: dict[str, Any]) -> None:
        if self._file is not None:
            row = {"seconds": self._seconds, **row}
            csv.DictWriter(self._file, COLUMNS).writerow({**row, "seconds": round(row["seconds"], 3)})
            self._file.flush()

    def _open(self, step: int) -> None:
        with naming(self.path):
            self._keep(step)
            self._file = self.path.open("a", encoding="utf-8", newline="")

    def _keep(self, step: int) -> None:
        """Write the head, and of the rows that were there those up to `step`, whole."""
        kept: list[dict[str, Any]] = []
        if step and self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            kept = [row for row in rows if str(row.get("step", "")).isdigit() and int(row["step"]) <= step]
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
        table.writeheader()
        table.writerows(kept)
        _core.write_atomic(str(self.path), text.getvalue().encode())
