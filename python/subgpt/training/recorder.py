"""Writes down what happens in a run and tells those who watch: the `Run`, `metrics.jsonl`, samples, the callbacks."""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.evaluation.measure import Evaluation
from subgpt.training.callbacks import (
    Callback,
    CheckpointEvent,
    EvalEvent,
    RollbackEvent,
    RunStart,
    SampleEvent,
    StepEvent,
)
from subgpt.training.metrics import MetricsFile
from subgpt.training.run import Run


class Recorder:
    """`run` grows with every call; `metrics` and `samples` are None for a run that writes nothing of the kind.

    unit: what targets are, see `Objective`.
    """

    def __init__(
        self,
        run: Run,
        metrics: MetricsFile | None,
        callbacks: Sequence[Callback],
        every: int,
        samples: MetricsFile | None = None,
        unit: str = "tokens",
    ) -> None:
        self.run = run
        self.metrics = metrics
        self._samples = samples
        self._callbacks = list(callbacks)
        self._every, self._unit = every, unit
        self._begin = time.monotonic() - run.seconds

    @property
    def seconds(self) -> float:
        """Seconds since the run began, over all resumptions."""
        return time.monotonic() - self._begin

    def start(self, start: RunStart) -> None:
        """Say that the run is about to begin."""
        self._tell(lambda callback: callback.on_start(start))

    def step(self, step: int, loss: float, rate: float, norm: float, tokens: int, took: float) -> None:
        """Record update number `step` (from 1), made from `tokens` targets in `took` seconds."""
        speed = tokens / max(took, 1e-9)
        event = StepEvent(step, self.run.max_steps, loss, rate, norm, speed, self.seconds, self._unit)
        record = {"step": step, "loss": loss, "learning_rate": rate, "grad_norm": norm}
        record |= {"tokens_per_second": round(speed, 1), "seconds": round(event.seconds, 3)}
        self.run.add(record)
        if step % self._every == 0 or step == self.run.max_steps:
            self._write(record)
        self._tell(lambda callback: callback.on_step(event))

    def evaluation(self, step: int, seen: Evaluation) -> bool:
        """Record a validation after update `step`; tell whether it is the best so far."""
        improved = seen.loss < self.run.best
        record: dict[str, Any] = {"step": step, "val_loss": seen.loss, "val_perplexity": seen.perplexity}
        record |= {"val_bits_per_byte": seen.bits_per_byte, "seconds": round(self.seconds, 3)}
        self.run.add(record)
        self._write(record)
        event = EvalEvent(step, seen, self.run.best, improved)
        self._tell(lambda callback: callback.on_eval(event))
        return improved

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Record that the model wrote `text` after `prompt`."""
        if self._samples is not None:
            self._samples.write({"step": step, "prompt": prompt, "text": text})
        event = SampleEvent(step, prompt, text)
        self._tell(lambda callback: callback.on_sample(event))

    def checkpoint(self, step: int, path: Path) -> None:
        """Record that a checkpoint is on the disk."""
        self.run.checkpoint = path
        event = CheckpointEvent(step, path)
        self._tell(lambda callback: callback.on_checkpoint(event))

    def rolled_back(self, record: dict[str, Any], event: RollbackEvent) -> None:
        """Record that the run went back to `event.step`, with the line `record`."""
        self.run.go_back(event.step)
        self.run.add(record)
        for file in (self.metrics, self._samples):
            if file is not None:
                file.rewind(event.step, event.number - 1)
        self._write(record)
        self._tell(lambda callback: callback.on_rollback(event))

    def moved(self, directory: RunDirectory) -> None:
        """Write where the run directory is by now."""
        self.run.output_dir = directory.path
        for file, path in ((self.metrics, directory.metrics), (self._samples, directory.samples)):
            if file is not None:
                file.path = path

    def note(self, text: str) -> None:
        """Pass on a line the user should see."""
        self._tell(lambda callback: callback.on_note(text))

    def end(self) -> None:
        """Say that the run is over."""
        self.run.seconds = self.seconds
        self._tell(lambda callback: callback.on_end(self.run))

    def _write(self, record: dict[str, Any]) -> None:
        if self.metrics is not None:
            self.metrics.write(record)

    def _tell(self, tell: Callable[[Callback], None]) -> None:
        """Call every callback; drop one that raises: a broken watcher must not cost a night of training."""
        for callback in list(self._callbacks):
            try:
                tell(callback)
            except Exception as error:
                self._callbacks.remove(callback)
                what = f"{type(callback).__name__} raised {type(error).__name__}: {error}"
                warnings.warn(f"{what}; training goes on without it", RuntimeWarning, stacklevel=2)
