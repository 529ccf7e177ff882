"""Everything a run keeps: its directory, checkpoints, the best weights, the model at the end.

Without a directory nothing is written; the best weights are then kept in memory.
"""

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.checkpoints import TrainState, list_checkpoints, save_checkpoint, sweep
from subgpt.checkpoint.lock import DirectoryLock
from subgpt.checkpoint.run_directory import RunDirectory, naming, save_adapter_run, save_model
from subgpt.checkpoint.trained import copy_weights, load_weights, put_back, save_weights
from subgpt.errors import CheckpointError, LossError
from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.optimizers import Optimizer
from subgpt.training.recorder import Recorder

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer


class Keeper:
    """Use in order: `open`, `begin`, then `save` and `keep_best` as often as needed, `finish`."""

    recorder: Recorder
    optimizer: Optimizer
    state: TrainState
    config: TrainConfig

    def __init__(self, directory: RunDirectory | None, model: GPT, stack: ExitStack) -> None:
        self.directory = directory
        self.model = model
        self.stack = stack
        self._best: dict[str, Any] | None = None

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Make and lock the directory; refuse one that holds an earlier run, unless it may be overwritten."""
        directory = self.directory
        if directory is None:
            return
        if resume and not directory.training.is_dir():
            raise CheckpointError(
                f"{directory.path}: no run to resume there; check output_dir, or start without resume"
            )
        directory.create()
        self.stack.enter_context(DirectoryLock(directory.lock))
        sweep(directory.checkpoints)
        if resume:
            return
        used = (
            list_checkpoints(directory.checkpoints)
            or directory.metrics.exists()
            or directory.weights.exists()
            or directory.adapter.exists()
        )
        if used and not overwrite:
            raise CheckpointError(
                f"{directory.path}: holds a model or run already; resume it (resume=True, --resume), choose "
                "another output_dir, or discard it (overwrite_output_dir=True, --overwrite-output-dir)"
            )

    def begin(self, optimizer: Optimizer, state: TrainState, config: TrainConfig, *, discard: bool) -> None:
        """Name what there is to keep, and `discard` what an earlier run left; by now this one can start."""
        self.optimizer, self.state, self.config = optimizer, state, config
        directory = self.directory
        if directory is None or not discard:
            return
        with naming(directory.training):
            shutil.rmtree(directory.checkpoints)
            directory.checkpoints.mkdir()
            for path in (
                directory.metrics,
                directory.samples,
                directory.best,
                directory.before,
                directory.probes,
                directory.plot,
                directory.table,
                directory.wandb_id,
            ):
                path.unlink(missing_ok=True)
            shutil.rmtree(directory.tensorboard, ignore_errors=True)

    def save(self) -> None:
        """Write a checkpoint, unless a weight is broken: then LossError, and the earlier ones stay."""
        if (broken := self.model.native.first_nonfinite("param")) is not None:
            raise LossError(
                f"step {self.state.step}: weight {broken} is not finite any more; lower learning_rate"
            )
        if self.directory is None:
            return
        state, recorder = self.state, self.recorder
        state.dropout = self.model.native.dropout_state
        state.seconds = recorder.seconds
        if recorder.metrics is not None:
            recorder.metrics.sync()
        path = save_checkpoint(
            self.directory.checkpoints, self.model, self.optimizer, state, self.config.save_total_limit
        )
        recorder.checkpoint(state.step, path)

    def keep_best(self) -> None:
        """Keep the weights as the best so far, if the run is to end with the best."""
        if not self.config.keeps_best:
            return
        if self.directory is None:
            self._best = copy_weights(self.model)
        else:
            save_weights(self.model, self.directory.best)

    def finish(self, tokenizer: "Tokenizer") -> None:
        """Take the best weights if wanted, and write model and tokenizer where other programs look."""
        if self.config.keeps_best and not self.recorder.run.interrupted:
            if self._best is not None:
                put_back(self.model, self._best)
            elif self.directory is not None and self.directory.best.exists():
                load_weights(self.model, self.directory.best)
        if self.directory is None:
            return
        if self.model.active_adapter is None:
            save_model(self.model, self.directory.path, tokenizer)
        else:
            save_adapter_run(self.model, self.directory.path, tokenizer)
