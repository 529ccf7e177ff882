"""Curves for TensorBoard (extra `tensorboard`), in `training/tensorboard`; the names are Hugging Face's.

tensorboardX writes the files, or PyTorch's writer where that is what is installed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.errors import MissingExtraError
from subgpt.training.callbacks import Callback

if TYPE_CHECKING:
    from subgpt.training.callbacks import EvalEvent, RollbackEvent, RunStart, SampleEvent, StepEvent
    from subgpt.training.config import TrainConfig
    from subgpt.training.run import Run


class TensorBoardReporter(Callback):
    """Writes `train/…` and `eval/…` scalars, and samples as texts."""

    def __init__(self, config: "TrainConfig") -> None:
        self._make = _summary_writer()
        self.path = RunDirectory(config.output_dir or ".").tensorboard
        self.every = config.logging_steps
        self._writer: Any = None

    def on_start(self, start: "RunStart") -> None:
        """Open an event file; TensorBoard forgets what an earlier one has from this step on."""
        self._open(start.step + 1 if start.step else None)

    def on_rollback(self, event: "RollbackEvent") -> None:
        """Let TensorBoard forget what is beyond the step to which the run went back."""
        self._writer.close()
        # That of step 0 is written again. Files of one second would have one name.
        self._open(event.step + 1 if event.step else 0, f".rollback-{event.number}")

    def on_step(self, event: "StepEvent") -> None:
        """Write the numbers of an update, as often as `metrics.jsonl` does."""
        if event.step % self.every == 0 or event.step == event.max_steps:
            for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second"):
                self._writer.add_scalar(f"train/{name}", getattr(event, name), event.step)

    def on_eval(self, event: "EvalEvent") -> None:
        """Write the numbers of a validation, so that they are seen at once."""
        for name in ("loss", "perplexity", "bits_per_byte"):
            value = getattr(event.evaluation, name)
            if value is not None:
                self._writer.add_scalar(f"eval/{name}", value, event.step)
        self._writer.flush()

    def on_sample(self, event: "SampleEvent") -> None:
        """Write the sample."""
        self._writer.add_text("sample", event.prompt + event.text, event.step)

    def on_end(self, run: "Run") -> None:
        """Close the event file."""
        del run
        if self._writer is not None:
            self._writer.close()

    def _open(self, purge: int | None, suffix: str = "") -> None:
        self._writer = self._make(str(self.path), purge_step=purge, filename_suffix=suffix)


def _summary_writer() -> Any:
    """Find a `SummaryWriter`; tensorboardX first, since PyTorch takes seconds to import."""
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return importlib.import_module(module).SummaryWriter
        except ImportError:
            continue
    raise MissingExtraError('report_to = tensorboard needs tensorboardX: pip install "subgpt[tensorboard]"')
