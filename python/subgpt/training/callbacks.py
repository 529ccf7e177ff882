"""Who watches a run: `Callback`, and the two watchers for a plain Python program.

`subgpt`'s command line brings its own progress display. In Python the default is a tqdm bar in a terminal, an output
that is drawn anew in a notebook (`training/notebook.py`), and plain lines elsewhere; `callbacks=()` is silent.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from subgpt.units import about

if TYPE_CHECKING:
    from subgpt.evaluation.measure import Evaluation
    from subgpt.training.run import Run


@dataclass(frozen=True)
class RunStart:
    """What is known before the first update.

    step: updates made before, of a run that is resumed. parameters: of the model, whatever of them is trained.
    train_tokens: what there is to learn from, counted once: the ids of running text, or the tokens of the answers.
    val_tokens: targets that are held out, in `unit`. tokens_per_step: positions that an update's rows have; with
    `padded` rows that is the most, and fewer are learnt from. output_dir: the run directory, or None. notes: lines for
    people. unit: what losses are means over: "tokens", or "pairs" of preferences.
    """

    step: int
    max_steps: int
    parameters: int
    train_tokens: int
    val_tokens: int
    tokens_per_step: int
    output_dir: Path | None
    notes: tuple[str, ...] = ()
    unit: str = "tokens"
    padded: bool = False


@dataclass(frozen=True)
class StepEvent:
    """One update: its number from 1, mean loss in nats before it, gradient norm before clipping, speed.

    tokens_per_second: targets learnt from in a second, in `unit`: "tokens", or "pairs" of preferences.
    """

    step: int
    max_steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    seconds: float
    unit: str = "tokens"


@dataclass(frozen=True)
class EvalEvent:
    """One validation after update `step` (0: before the first)."""

    step: int
    evaluation: "Evaluation"
    best: float
    improved: bool


@dataclass(frozen=True)
class SampleEvent:
    """A text that the model wrote after update `step`."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class CheckpointEvent:
    """A checkpoint that is safely on the disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class RollbackEvent:
    """The loss left its course: the run went back from update `spike_step` to `step`.

    number: of this rollback, from 1, of at most `most`. reason: what was seen. skipped: batches that are passed over.
    """

    number: int
    most: int
    step: int
    spike_step: int
    skipped: int
    reason: str


class Callback:
    """Override what you want to hear of. One that raises is dropped with a warning; training goes on."""

    def on_start(self, start: RunStart) -> None:
        """Hear of the run before the first update."""

    def on_step(self, event: StepEvent) -> None:
        """Hear of each update."""

    def on_eval(self, event: EvalEvent) -> None:
        """Hear of each validation."""

    def on_sample(self, event: SampleEvent) -> None:
        """Hear of each sample."""

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Hear of each checkpoint."""

    def on_rollback(self, event: RollbackEvent) -> None:
        """Hear that the run went back; updates beyond `event.step` are made again, with other data."""

    def on_note(self, text: str) -> None:
        """Hear a line the user should see: a checkpoint skipped, how to resume, an extra that is missing."""

    def on_end(self, run: "Run") -> None:
        """Hear of the end, also of an interrupted or broken run."""


class LogLines(Callback):
    """Plain lines, at most one training line in `every` seconds: for files, pipes and batch jobs."""

    def __init__(self, stream: TextIO | None = None, every: float = 5.0) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.every = every
        self._last = float("-inf")
        self._first: StepEvent | None = None

    def on_start(self, start: RunStart) -> None:
        """Say what is about to happen."""
        most = f"{start.tokens_per_step:,} a step"
        if start.padded:
            most = f"at most {start.tokens_per_step:,} positions a step"
        self.say(
            f"training {start.parameters:,} parameters on {start.train_tokens:,} tokens, {most}, "
            f"steps {start.step + 1} to {start.max_steps}"
        )
        for note in start.notes:
            self.say(note)

    def on_step(self, event: StepEvent) -> None:
        """Say the loss, now and then."""
        if event.seconds - self._last >= self.every or event.step == event.max_steps:
            self._last = event.seconds
            self.say(f"step {event.step}/{event.max_steps}  {describe_step(event)}{self._left(event)}")

    def _left(self, event: StepEvent) -> str:
        """Say how long the rest will take, from how long the steps took that were seen."""
        first = self._first = self._first or event
        if first.step < event.step < event.max_steps:
            each = (event.seconds - first.seconds) / (event.step - first.step)
            return f"  about {about(each * (event.max_steps - event.step))} left"
        return ""

    def on_eval(self, event: EvalEvent) -> None:
        """Say the validation loss."""
        self.say(describe_eval(event))

    def on_sample(self, event: SampleEvent) -> None:
        """Show the sample."""
        self.say(f"sample at step {event.step}: {event.prompt}{event.text}")

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Say where the checkpoint is."""
        self.say(f"checkpoint {event.path}")

    def on_rollback(self, event: RollbackEvent) -> None:
        """Say what was seen and where the run goes on."""
        self.say(describe_rollback(event))

    def on_note(self, text: str) -> None:
        """Say it."""
        self.say(text)

    def on_end(self, run: "Run") -> None:
        """Sum up."""
        self.say(str(run))

    def say(self, text: str) -> None:
        """Print one line."""
        print(text, file=self.stream, flush=True)


class TqdmBar(LogLines):
    """A tqdm bar with loss and speed; validations and notes above it."""

    _bar: Any = None

    def on_start(self, start: RunStart) -> None:
        """Open the bar at the step where the run begins."""
        from tqdm import tqdm

        super().on_start(start)
        self._bar = tqdm(total=start.max_steps, initial=start.step, unit="step", file=self.stream)

    def on_step(self, event: StepEvent) -> None:
        """Move the bar."""
        self._bar.set_postfix_str(describe_step(event), refresh=False)
        self._bar.update()

    def on_rollback(self, event: RollbackEvent) -> None:
        """Move the bar back."""
        super().on_rollback(event)
        self._bar.n = event.step
        self._bar.refresh()

    def on_end(self, run: "Run") -> None:
        """Close the bar and sum up."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()
        super().on_end(run)

    def say(self, text: str) -> None:
        """Print one line that does not tear the bar."""
        if self._bar is None:
            super().say(text)
        else:
            self._bar.write(text, file=self.stream)


def describe_step(event: StepEvent) -> str:
    """Put loss, rate, norm and speed in one short line."""
    return (
        f"loss {event.loss:.4f}  lr {event.learning_rate:.2e}  norm {event.grad_norm:.2f}  "
        f"{event.tokens_per_second:,.0f} {event.unit}/s"
    )


def describe_eval(event: EvalEvent) -> str:
    """Put validation loss, perplexity and bits per byte, as far as it has them, in one short line."""
    seen = event.evaluation
    star = " (best)" if event.improved else ""
    bits = "" if seen.bits_per_byte is None else f", {seen.bits_per_byte:.3f} bits per byte"
    perplexity = "" if seen.perplexity is None else f", perplexity {seen.perplexity:.2f}"
    return f"step {event.step}: validation loss {seen.loss:.4f}{star}{perplexity}{bits}"


def describe_rollback(event: RollbackEvent) -> str:
    """Put what was seen, where the run goes on and how often it may in one line."""
    reason = event.reason.partition("; ")[0]
    return (
        f"{reason}; rolled back to step {event.step}, passing over {event.skipped} batches "
        f"(rollback {event.number} of at most {event.most})"
    )


def default_callbacks() -> tuple[Callback, ...]:
    """Choose a bar where someone watches, lines elsewhere."""
    from subgpt.training.notebook import NotebookView, in_notebook

    if in_notebook():
        return (NotebookView(),)
    return (TqdmBar(),) if sys.stderr.isatty() else (LogLines(),)
