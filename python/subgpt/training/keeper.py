"""Everything a run keeps: its directory, checkpoints, the best weights, the model at the end.

Without a directory nothing is written; the best weights are then kept in memory. Checkpoints are copied while the run
waits and written while it goes on; `look` raises what failed meanwhile.
"""

import shutil
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.checkpoints import (
    TrainState,
    best_name,
    check_opened,
    checkpoint_path,
    discard,
    draft_checkpoint,
    list_best,
    list_checkpoints,
    newest_checkpoint,
    prune,
    prune_best,
    restore,
    step_of,
    sweep,
)
from subgpt.checkpoint.draft import Draft
from subgpt.checkpoint.lock import DirectoryLock
from subgpt.checkpoint.run_directory import RunDirectory, naming, save_adapter_run, save_model
from subgpt.checkpoint.staging import sweep_memory
from subgpt.checkpoint.trained import copy_weights, load_weights, put_back, weights_file
from subgpt.checkpoint.writer import BackgroundWriter, Cancelled
from subgpt.errors import CheckpointError, LossError, OutputError, SubgptError
from subgpt.model.gpt import GPT
from subgpt.training.callbacks import RollbackEvent
from subgpt.training.config import TrainConfig
from subgpt.training.guard import BadStepError, check_weights
from subgpt.training.make_optimizer import make_optimizer
from subgpt.training.metrics import has_steps
from subgpt.training.optimizers import Optimizer
from subgpt.training.recorder import Recorder
from subgpt.training.workers import ALONE, Workers

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer


class Keeper:
    """Use in order: `open`, `begin`, then `save`, `keep_best`, `look`, `roll_back` at need, `finish`, `close`."""

    recorder: Recorder
    optimizer: Optimizer
    state: TrainState
    config: TrainConfig

    def __init__(
        self,
        directory: RunDirectory | None,
        model: GPT,
        stack: ExitStack,
        workers: Workers = ALONE,
    ) -> None:
        self.directory = directory
        self.model = model
        self.stack = stack
        self._workers = workers
        self._writer = BackgroundWriter()
        self._lock: DirectoryLock | None = None
        self._best: dict[str, Any] | None = None
        self._is_base = self._goes_on = False

    def open(self, *, resume: bool, overwrite: bool, adapts: bool = False) -> None:
        """Make and lock the directory; refuse one that holds an earlier run, unless it may be overwritten.

        adapts: what the run writes needs the model that it begins with, which must not lie there.
        """
        directory = self.directory
        if directory is None:
            return
        if resume and not directory.training.is_dir():
            raise CheckpointError(
                f"{directory.path}: no run to resume there; check output_dir, or start without resume"
            )
        directory.create()
        self._lock = self.stack.enter_context(DirectoryLock(directory.lock))
        sweep(directory.checkpoints)
        sweep_memory()
        if resume:
            return
        used = (
            list_checkpoints(directory.checkpoints) or has_steps(directory.metrics) or directory.holds_model()
        )
        if used and not overwrite:
            raise CheckpointError(
                f"{directory.path}: holds a model or run already; resume it (resume=True, --resume), choose "
                "another output_dir, or discard it (overwrite_output_dir=True, --overwrite-output-dir)"
            )
        self._is_base = Path(self.model.name_or_path) == directory.path.resolve()
        self._goes_on = self.model.active_adapter is not None
        within = Path(self.model.name_or_path).is_relative_to(directory.checkpoints.resolve())
        if adapts and (self._is_base or within):
            raise CheckpointError(
                f"{directory.path}: holds the model that the adapter is to lie over, which it needs to be opened; "
                "choose another output_dir"
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
                directory.before,
                directory.probes,
                directory.plot,
                directory.report,
                directory.table,
                directory.wandb_id,
            ):
                path.unlink(missing_ok=True)
            shutil.rmtree(directory.tensorboard, ignore_errors=True)
            if config.overwrite_output_dir and not self._is_base:
                # Nor is a run that dies to leave what was discarded; but what it began with stays to the end.
                directory.remove_model(adapter=not self._goes_on)

    def save(self, wait: bool) -> None:
        """Copy a checkpoint and have it written; `wait`: until it is on the disk.

        Raises LossError if a weight is broken, and the earlier ones stay; OutputError if it cannot be written.
        """
        check_weights(self.model, self.state.step)
        optimizer = self._workers.whole(self.optimizer, self._new_optimizer)
        if self.directory is None or optimizer is None:
            return
        state, recorder = self.state, self.recorder
        state.dropout = self.model.native.dropout_state
        state.seconds = recorder.seconds
        directory = self._follow().checkpoints
        # A checkpoint of this very step is the one that the run was resumed from.
        if not checkpoint_path(directory, state.step).exists():
            self.look()  # before a copy is made that nobody would write
            draft = draft_checkpoint(directory, self.model, optimizer, state)
            step = state.step
            every = self.config.save_steps or 10**9 if self.config.on_spike == "rollback" else 0

            def write(cancelled: Cancelled) -> Path:
                if recorder.metrics is not None:
                    recorder.metrics.sync()
                path = self._write(draft, cancelled)
                prune(path.parent, self.config.save_total_limit, every)
                return path

            self._writer.submit(write, lambda path: recorder.checkpoint(step, path))
        if wait:
            self._writer.wait()

    def keep_best(self) -> None:
        """Keep the weights as the best so far, if the run is to end with the best."""
        if not (self.config.keeps_best and self._workers.is_main):
            return
        if self.directory is None:
            self._best = copy_weights(self.model)
            return
        self.look()
        step = self.state.best_step
        about = {**asdict(self.state), "dropout": self.model.native.dropout_state}
        draft = Draft(self._follow().checkpoints, best_name(step), self.model, None, about)

        def write(cancelled: Cancelled) -> Path:
            path = self._write(draft, cancelled)
            prune_best(path.parent, [step])
            return path

        self._writer.submit(write, _say_nothing)

    def look(self) -> None:
        """Tell of what was written since the last call; OutputError if something could not be."""
        self._writer.poll()

    def roll_back(self, error: BadStepError) -> None:
        """Go back to the newest checkpoint, or raise `error` where the settings say so or it happened too often.

        Where the loss left its course again before the run got past the last such place, that checkpoint is already on
        a bad way: the one before is taken, if there is one.
        """
        config, state, workers = self.config, self.state, self._workers
        if config.on_spike != "rollback" or (workers.is_main and self.directory is None):
            raise error
        if len(state.rollbacks) >= config.max_rollbacks:
            raise LossError(
                f"{error}; the run went back {len(state.rollbacks)} times already (max_rollbacks)"
            ) from error
        restored = path = None
        with workers.together("going back to a checkpoint"):
            if workers.is_main:
                path, restored, kept = self._restore_last_good(error.step)
        saved = TrainState(**workers.from_main(lambda: asdict(kept)))
        saved.dropout = (saved.dropout[0], saved.dropout[1])  # which came as a list
        workers.adopt(self.model, self.optimizer, restored)
        self.model.zero_grad()
        number, passes = len(state.rollbacks) + 1, config.gradient_accumulation_steps
        skipped = (error.step - saved.step) * passes
        record = {"step": saved.step, "rollback": number, **error.record(), "skipped": skipped}
        record |= {"reason": str(error).partition("; ")[0], "seconds": round(self.recorder.seconds, 3)}
        before = (state.skipped + skipped, [*state.rollbacks, {"step": saved.step, "spike_step": error.step}])
        for entry in fields(TrainState):
            if entry.name != "settings":  # which may be newer than the checkpoint
                setattr(state, entry.name, getattr(saved, entry.name))
        state.skipped, state.rollbacks = before
        event = RollbackEvent(number, config.max_rollbacks, saved.step, error.step, skipped, str(error))
        run = self.recorder.run
        run.best, run.best_step, run.checkpoint = state.best_loss, state.best_step, path
        self.recorder.rolled_back(record, event)

    def _restore_last_good(self, step: int) -> tuple[Path, Optimizer, TrainState]:
        """Read the checkpoint to go back to, and discard those that come after it."""
        self._writer.wait()
        path, saved = self._last_good(step)
        optimizer = self.optimizer if self._workers is ALONE else self._new_optimizer()
        restore(path, saved, self.model, optimizer)
        for newer in [*list_checkpoints(path.parent), *list_best(path.parent)]:
            if step_of(newer) > saved.step:  # of a future that will not happen
                discard(newer)
        return path, optimizer, saved

    def _new_optimizer(self) -> Optimizer:
        return make_optimizer(self.model, self.config)

    def finish(self, tokenizer: "Tokenizer") -> None:
        """Take the best weights if wanted, and write model and tokenizer where other programs look."""
        with self._workers.together("writing the model"):
            if self._workers.is_main:
                self._finish(tokenizer)
        self._workers.share_weights(self.model)

    def _finish(self, tokenizer: "Tokenizer") -> None:
        self._writer.wait()
        directory = None if self.directory is None else self._follow()
        if self.config.keeps_best and not self.recorder.run.interrupted:
            self._take_best(directory)
        if directory is None:
            return
        if self.model.active_adapter is None:
            save_model(self.model, directory.path, tokenizer, replace_adapter=True)
        else:
            save_adapter_run(self.model, directory.path, tokenizer)

    def close(self) -> None:
        """Wait for what is still being written."""
        self._writer.close()

    def _take_best(self, directory: RunDirectory | None) -> None:
        if self._best is not None:
            put_back(self.model, self._best)
        if directory is None or self.state.best is None:
            return
        path = directory.checkpoints / best_name(self.state.best_step)
        if not path.is_dir():
            self.recorder.note(
                f"the weights of step {self.state.best_step}, the best, were not kept; the run ends with its last"
            )
            return
        try:
            check_opened(path)
            load_weights(self.model, path / weights_file(self.model))
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; the last weights are whole: resume with load_best_model_at_end=False to end with them"
            ) from None

    def _last_good(self, step: int) -> tuple[Path, TrainState]:
        """Find the checkpoint to go back to, from which update `step` is made again."""
        every, directory = self.config.save_steps, self._follow().checkpoints
        tried = {entry["step"] for entry in self.state.rollbacks if entry["spike_step"] >= step}
        # Only those that the unbroken run has, too: one of an interruption is not there when nobody interrupts.
        due = {
            number for number in map(step_of, list_checkpoints(directory)) if not number % (every or 10**9)
        }
        note = self.recorder.note
        for allowed in (due - tried, due):
            found = newest_checkpoint(directory, note, allowed.__contains__) if allowed else None
            if found is not None:
                return found
        found = newest_checkpoint(directory, note)
        if found is None:
            raise CheckpointError(f"{directory}: has no checkpoint to go back to; start the run anew")
        return found

    def _write(self, draft: Draft, cancelled: Cancelled) -> Path:
        """Write a draft, also into a directory that is renamed meanwhile; runs beside the training."""
        try:
            place = self._place().checkpoints
            try:
                return draft.write(place, cancelled)
            except (SubgptError, OSError):
                if (moved := self._place().checkpoints) == place:
                    raise
                return draft.write(moved, cancelled)
        finally:
            draft.discard()

    def _place(self) -> RunDirectory:
        """Tell where the directory is by now; OutputError if it was deleted, or moved and cannot be found."""
        directory = self.directory
        if directory is None or self._lock is None:
            raise ValueError("a run without a directory has no place")
        place = self._lock.place()
        if place is None:
            raise OutputError(
                f"{directory.path}: was moved or deleted while the run went on; put it back and resume, or start anew"
            )
        return directory if place == directory.lock else RunDirectory(place.parent.parent)

    def _follow(self) -> RunDirectory:
        """Go on where the directory is by now."""
        place = self._place()
        if place is not self.directory:
            self.directory = place
            self.recorder.moved(place)
            self.recorder.note(f"the run directory was renamed; going on in {place.path}")
        return place


def _say_nothing(_path: Path) -> None:
    """Stand for an event that nobody hears of."""
