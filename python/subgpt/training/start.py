"""Where a run begins: fresh, or from the newest checkpoint that can be read."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.adapters.attach import fingerprint
from subgpt.checkpoint.checkpoints import TrainState, newest_checkpoint, restore, set_aside
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.checkpoint.trained import check_base
from subgpt.errors import CheckpointError
from subgpt.machine import check_room
from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.data import TrainingData
from subgpt.training.make_optimizer import make_optimizer
from subgpt.training.optimizers import Optimizer
from subgpt.training.resume import check_inputs, check_model, merge_settings
from subgpt.training.trained import choose_trained, release
from subgpt.training.workers import ALONE, Workers

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

MakeData = Callable[[TrainConfig], TrainingData]


class Start:
    """Settings, data, optimizer and state at the beginning; `path` is the checkpoint, None for a fresh run.

    resumed: the directory to go on in, None to start fresh. stack: what ends with the run, which lets go of what this
    froze. The model is changed last, when all that can be refused was looked at, but for the room that there is.
    """

    config: TrainConfig
    data: TrainingData
    optimizer: Optimizer
    state: TrainState
    trains: list[str]

    def __init__(
        self,
        model: GPT,
        tokenizer: "Tokenizer",
        make_data: MakeData,
        given: TrainConfig,
        defaults: dict[str, Any],
        resumed: RunDirectory | None,
        stack: ExitStack,
        workers: Workers = ALONE,
    ) -> None:
        self.notes: list[str] = []
        self.path: Path | None = None
        self._given, self._defaults, self._resumed = given, defaults, resumed
        self._stack, self._workers = stack, workers
        workers.check_same("the model", lambda: fingerprint(model))
        with workers.together("looking for a checkpoint"):
            found = self._choose(model) if workers.is_main else None
        self._agree(workers)
        with workers.together("reading the data"):
            self.data = make_data(self.config)
        workers.check_same("the data", lambda: self.data.fingerprint)
        workers.check_same("the tokenizer", lambda: tokenizer.fingerprint)
        workers.check_same("the instruction set (SUBGPT_ISA chooses one)", _core.isa)
        with workers.together("taking up the run"):
            while found is not None and not self._resume(*found, model, tokenizer):
                found = self._choose(model)
            if found is None:
                self._begin(model, tokenizer)
        self._agree(workers)
        state = workers.from_main(lambda: asdict(self.state))
        self.state = TrainState(**{**state, "dropout": tuple(state["dropout"])})
        with workers.together("dividing the work"):
            workers.prepare(model, self.config)
        workers.adopt(model, self.optimizer)
        model.zero_grad()
        self.state.settings = self.config.to_dict() | {"output_dir": None}  # the folder may be moved
        self.notes[:0] = [*self.data.notes, *self.trains, *workers.describe(self.config)]

    def _choose(self, model: GPT) -> tuple[Path, TrainState] | None:
        """Find the checkpoint to go on from, None to begin at step 0, and the settings."""
        found = None
        if self._resumed is not None:
            found = newest_checkpoint(self._resumed.checkpoints, self.notes.append)
            if found is None:
                self.notes.append(f"{self._resumed.path} has no checkpoint yet; starting at step 0")
        if found is None:
            given = self._given.with_defaults(**self._defaults)
            self.config = given.resolved(model.config.block_size, model.dtype)
        else:
            path, state = found
            check_model(model, state, str(path))
            self.config = merge_settings(self._given, state, str(path))
        return found

    def _agree(self, workers: Workers) -> None:
        """Take the settings of the main process; where a run lies is its affair alone."""
        told = workers.from_main(lambda: self.config.to_dict())  # noqa: PLW0108 - others have none yet
        if not workers.is_main:
            self.config = TrainConfig(**{**told, "output_dir": None})

    def _resume(self, path: Path, state: TrainState, model: GPT, tokenizer: "Tokenizer") -> bool:
        """Take up the checkpoint at `path`; set it aside if its tensors cannot be read after all."""
        check_inputs(state, self.data.fingerprint, tokenizer.fingerprint, str(path))
        check_base(model, path)
        self._prepare(model)
        try:
            restore(path, state, model, self.optimizer)
        except (CheckpointError, ValueError) as error:
            set_aside(path, error, self.notes.append)
            return False
        self.state, self.path = state, path
        self.notes.append(f"resumed from {path.name}")
        return True

    def _begin(self, model: GPT, tokenizer: "Tokenizer") -> None:
        """Start at step 0."""
        self._prepare(model)
        model.native.dropout_state = (self.config.seed, 0)
        self.state = TrainState(
            dropout=(self.config.seed, 0),
            model=model.config.to_dict(),
            data=self.data.fingerprint,
            tokenizer=tokenizer.fingerprint,
        )

    def _prepare(self, model: GPT) -> None:
        used = model.active_adapter
        self.trains = prepare(model, self.config)
        self._stack.callback(release, model, self.config)
        try:
            self._equip(model)
        except BaseException:
            if used is None and model.active_adapter is not None:
                model.delete_adapter(model.active_adapter)
            raise

    def _equip(self, model: GPT) -> None:
        """Make the optimizer, if there is room for all that the run needs."""
        from subgpt.performance.memory import memory_of  # which prepares models by this module

        if self._workers is ALONE:  # several divide what they need
            # Systems promise more than they have, and end the process once it is written to.
            check_room(sum(memory_of(model, self.config).values()))
        self.optimizer = make_optimizer(model, self.config)


def prepare(model: GPT, config: TrainConfig) -> list[str]:
    """Make `model` compute and train as `config`, which is resolved, says; gives what is to be said about it."""
    model.dtype = config.dtype or model.dtype
    model.gradient_checkpointing = config.gradient_checkpointing
    return choose_trained(model, config)
