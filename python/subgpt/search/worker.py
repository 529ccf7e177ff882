"""One trial, in a process of its own, which `pool` begins.

It reads what to do from the sweep's plan, trains, and writes down what came of it. It is asked to stop by the end of
its standard input, which comes also where the process that began it is killed: then it ends as after Ctrl-C, with a
checkpoint.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.errors import LossError, SubgptError
from subgpt.search.outcomes import DIVERGED, FAILED, FINISHED, INTERRUPTED, Outcome
from subgpt.search.plan import Plan, SweepDirectory
from subgpt.training.callbacks import LogLines

if TYPE_CHECKING:
    from subgpt.training.callbacks import RunStart
    from subgpt.training.run import Run

_LAST = 20
"""Steps whose mean is the training loss of a trial."""


class _Watch(LogLines):
    """Says in the log what happens, and remembers the run and its size."""

    parameters: int | None = None
    run: "Run | None" = None

    def on_start(self, start: "RunStart") -> None:
        """Remember the size."""
        self.parameters = start.parameters
        super().on_start(start)

    def on_end(self, run: "Run") -> None:
        """Remember the run, also a broken one."""
        self.run = run
        super().on_end(run)


def main(sweep: str, trial: int) -> None:
    """Train trial number `trial` of the sweep in `sweep`, until it is done or standard input ends."""
    listener = threading.Thread(target=_stop_at_end_of_input, daemon=True)
    run_trial(SweepDirectory(sweep), trial, listener.start)


def run_trial(directory: SweepDirectory, trial: int, listen: Callable[[], None] = lambda: None) -> None:
    """Train a trial and write its outcome; an interrupt is one of the ways it may end.

    listen: is called from where on an interrupt is such an end. Input that has ended already interrupts at once.
    """
    plan = Plan.read(directory)
    seen = Outcome(trial, plan.trials[trial - 1], run=directory.run(trial))
    watch = _Watch(sys.stdout, every=2.0)
    try:
        listen()
        run = _train(plan, seen, watch)
        status, reason = (INTERRUPTED, "") if run.interrupted else (FINISHED, "")
    except KeyboardInterrupt:
        status, reason = INTERRUPTED, ""
    except LossError as error:
        status, reason = DIVERGED, str(error)
    except (SubgptError, OSError, MemoryError) as error:
        status, reason = FAILED, str(error) or type(error).__name__
    except Exception as error:
        traceback.print_exc()
        status, reason = FAILED, f"{type(error).__name__}: {error}"
    seen = dataclasses.replace(seen, status=status, reason=" ".join(reason.split()))
    directory.write_outcome(_measured(seen, watch))


def _train(plan: Plan, seen: Outcome, watch: LogLines) -> "Run":
    """Begin the trial, or go on where it was interrupted."""
    from subgpt.finetuning.finetune import finetune
    from subgpt.training.pretrain import pretrain

    assert seen.run is not None
    model, tokenizer, config = plan.base.open(seen.values)
    verb = pretrain if plan.base.start is None else finetune
    return verb(
        model,
        tokenizer,
        [Path(source) for source in plan.base.data],
        config,
        output_dir=seen.run,
        resume=(seen.run / "training").is_dir(),
        callbacks=[watch],
    )


def _measured(seen: Outcome, watch: _Watch) -> Outcome:
    """Add what the run showed."""
    run = watch.run
    if run is None:
        return seen
    last = run.losses[-_LAST:]
    return dataclasses.replace(
        seen,
        val_loss=run.best if run.val_losses else None,
        best_step=run.best_step if run.val_losses else None,
        train_loss=sum(last) / len(last) if last else None,
        steps=run.step,
        seconds=round(run.seconds, 3),
        parameters=watch.parameters,
    )


def _stop_at_end_of_input() -> None:
    """Wait for the end of standard input, and interrupt.

    It is read without Python's buffers, which are locked at the exit.
    """
    with contextlib.suppress(OSError):
        while os.read(0, 64):
            pass
    signal.raise_signal(signal.SIGINT)
