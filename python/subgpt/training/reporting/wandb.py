"""Runs for Weights & Biases (extra `wandb`); the names are Hugging Face's.

wandb's own variables say where: WANDB_PROJECT (subgpt if not given), WANDB_MODE=offline, WANDB_DIR and its others.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.errors import MissingExtraError
from subgpt.training.callbacks import Callback

if TYPE_CHECKING:
    from subgpt.training.callbacks import EvalEvent, RunStart, StepEvent
    from subgpt.training.config import TrainConfig
    from subgpt.training.run import Run

STEP = "train/global_step"  # as transformers names it
PROJECT = "subgpt"


class WandbReporter(Callback):
    """Logs `train/…` and `eval/…`; a run that is resumed goes on under the id that it had."""

    def __init__(self, config: "TrainConfig") -> None:
        self._wandb = _library()
        self.config = config
        self._run: Any = None

    def on_start(self, start: "RunStart") -> None:
        """Begin a run there, or go on with it."""
        directory = None if start.output_dir is None else RunDirectory(start.output_dir)
        known = None
        if directory is not None and start.step and directory.wandb_id.is_file():
            known = directory.wandb_id.read_text(encoding="utf-8").strip() or None
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=None if start.output_dir is None else start.output_dir.name,
            dir=None if directory is None or "WANDB_DIR" in os.environ else str(directory.training),
            id=known,
            resume="allow" if known else None,
            config={
                **self.config.to_dict(),
                "max_steps": start.max_steps,
                "parameters": start.parameters,
                "train_tokens": start.train_tokens,
            },
        )
        # The step is a number like others: W&B's own never goes back, which a run does that is rolled back.
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        if directory is not None:
            _core.write_atomic(str(directory.wandb_id), f"{self._run.id}\n".encode())

    def on_step(self, event: "StepEvent") -> None:
        """Log the numbers of an update, as often as `metrics.jsonl` does."""
        if event.step % self.config.logging_steps == 0 or event.step == event.max_steps:
            names = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
            self._run.log({STEP: event.step, **{f"train/{name}": getattr(event, name) for name in names}})

    def on_eval(self, event: "EvalEvent") -> None:
        """Log the numbers of a validation."""
        values = {name: getattr(event.evaluation, name) for name in ("loss", "perplexity", "bits_per_byte")}
        seen = {f"eval/{name}": value for name, value in values.items() if value is not None}
        self._run.log({STEP: event.step, **seen})

    def on_end(self, run: "Run") -> None:
        """End the run there, as failed if it was ended by force."""
        if self._run is not None:
            if run.val_losses:
                self._run.summary["best_val_loss"] = run.best
            self._run.finish(exit_code=0 if run.error is None else 1)
            self._run = None


def _library() -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        raise MissingExtraError('report_to = wandb needs wandb: pip install "subgpt[wandb]"') from None
    if not hasattr(wandb, "init"):  # a folder `wandb/` of earlier runs in the working directory
        raise MissingExtraError('report_to = wandb needs wandb: pip install "subgpt[wandb]"')
    return wandb
