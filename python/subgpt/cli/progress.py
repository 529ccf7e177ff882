"""Who watches a training run: a live bar in a terminal, plain lines in a pipe or a log, nobody with -q."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from subgpt.cli.terminal import err, harmless, is_watched, warn
from subgpt.cli.volume import is_quiet, is_verbose
from subgpt.training.callbacks import Callback, LogLines, describe_eval, describe_rollback

if TYPE_CHECKING:
    from subgpt.training.callbacks import (
        CheckpointEvent,
        EvalEvent,
        RollbackEvent,
        RunStart,
        SampleEvent,
        StepEvent,
    )
    from subgpt.training.run import Run


@contextmanager
def watching(
    started: "Callable[[RunStart], None] | None" = None, *, brief: bool = False
) -> Iterator[tuple[Callback, ...]]:
    """Choose the display for where standard error goes, and take it down however the run ends.

    started: called before the first update. brief: leave out what a quickstart says itself.
    """
    loud = LiveBar if is_watched() else Lines
    display = Silent(started) if is_quiet() else loud(started, brief=brief)
    try:
        yield (display,)
    finally:
        display.close()


class Silent(Callback):
    """Says only what is a warning."""

    def __init__(self, started: "Callable[[RunStart], None] | None") -> None:
        self.started = started

    def on_start(self, start: "RunStart") -> None:
        """Let settings be kept."""
        if self.started is not None:
            self.started(start)

    def on_rollback(self, event: "RollbackEvent") -> None:
        """Warn."""
        warn(describe_rollback(event))

    def close(self) -> None:
        """Do nothing: there is no display to take down."""


class Lines(LogLines):
    """Plain lines, a training line every few seconds, or at each step with -v.

    `brief` leaves out all but steps and validations.
    """

    def __init__(self, started: "Callable[[RunStart], None] | None" = None, *, brief: bool = False) -> None:
        super().__init__(every=0.0 if is_verbose() else 5.0)
        self.started = started
        self.brief = brief

    def on_start(self, start: "RunStart") -> None:
        """Say what is about to happen."""
        if self.started is not None:
            self.started(start)
        if not self.brief:
            super().on_start(start)

    def on_checkpoint(self, event: "CheckpointEvent") -> None:
        """Say where the checkpoint is."""
        if not self.brief:
            super().on_checkpoint(event)

    def on_note(self, text: str) -> None:
        """Say it."""
        if not self.brief:
            super().on_note(text)

    def on_end(self, run: "Run") -> None:
        """Sum up."""
        if not self.brief:
            super().on_end(run)

    def close(self) -> None:
        """Take the display down; lines have nothing to take down."""


class LiveBar(Lines):
    """A bar with loss, speed and the time left; validations and notes as lines above it."""

    _progress: Any = None
    _task: Any = None

    def on_start(self, start: "RunStart") -> None:
        """Open the bar at the step where the run begins."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().on_start(start)
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("[dim]{task.fields[speed]} {task.fields[unit]}/s[/dim]"),
            TimeRemainingColumn(compact=True),
            console=err(),
            transient=True,
        )
        self._task = self._progress.add_task(
            "", total=start.max_steps, completed=start.step, loss="…", speed="…", unit=start.unit
        )
        self._progress.start()

    def on_step(self, event: "StepEvent") -> None:
        """Move the bar."""
        self._progress.update(
            self._task,
            completed=event.step,
            loss=f"{event.loss:.3f}",
            speed=f"{event.tokens_per_second:,.0f}",
        )

    def on_eval(self, event: "EvalEvent") -> None:
        """Say the validation loss above the bar."""
        self.say(describe_eval(event), style="cyan")

    def on_sample(self, event: "SampleEvent") -> None:
        """Show the sample above the bar."""
        self.say(f"sample at step {event.step}: {event.prompt}{event.text}", style="dim")

    def on_end(self, run: "Run") -> None:
        """Take the bar away and sum up."""
        self.close()
        super().on_end(run)

    def close(self) -> None:
        """Take the bar away, also after an error."""
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str, style: str = "") -> None:
        """Print one line; above the bar while there is one."""
        from rich.text import Text

        err().print(Text(harmless(text), style=style))
