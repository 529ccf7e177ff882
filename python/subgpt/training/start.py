"""Where a run begins: fresh, or from the newest checkpoint that can be read."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.checkpoints import TrainState, newest_checkpoint, restore, set_aside
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.checkpoint.trained import check_base
from subgpt.errors import CheckpointError
from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.data import TrainingData
from subgpt.training.optimizers import SGD, AdamW, Lion, Muon, Optimizer
from subgpt.training.resume import check_inputs, check_model, merge_settings
from subgpt.training.trained import choose_trained

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

MakeData = Callable[[TrainConfig], TrainingData]


class Start:
    """Settings, data, optimizer and state at the beginning; `path` is the checkpoint, None for a fresh run.

    resumed: the directory to go on in, None to start fresh. The model is changed last, after everything that
    can be refused was looked at.
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
    ) -> None:
        self.notes: list[str] = []
        self.path: Path | None = None
        while resumed is not None and self.path is None:
            found = newest_checkpoint(resumed.checkpoints, self.notes.append)
            if found is None:
                self.notes.append(f"{resumed.path} has no checkpoint yet; starting at step 0")
                break
            self._resume(*found, model, tokenizer, make_data, given)
        if self.path is None:
            config = given.with_defaults(**defaults).resolved(model.config.block_size, model.dtype)
            self._begin(model, tokenizer, make_data, config)
        model.zero_grad()
        self.state.settings = self.config.to_dict() | {"output_dir": None}  # the folder may be moved
        self.notes[:0] = [*self.data.notes, *self.trains]

    def _resume(
        self,
        path: Path,
        state: TrainState,
        model: GPT,
        tokenizer: "Tokenizer",
        make_data: MakeData,
        given: TrainConfig,
    ) -> None:
        """Take up the checkpoint at `path`; set it aside if its tensors cannot be read after all."""
        check_model(model, state, str(path))
        self.state = state
        self.config = merge_settings(given, state, str(path))
        if not hasattr(self, "data"):  # the checkpoints of a run share their data; an iterator gives it once
            self.data = make_data(self.config)
        check_inputs(state, self.data.fingerprint, tokenizer.fingerprint, str(path))
        check_base(model, path)
        self._prepare(model)
        try:
            restore(path, state, model, self.optimizer)
        except (CheckpointError, ValueError) as error:
            set_aside(path, error, self.notes.append)
            return
        self.path = path
        self.notes.append(f"resumed from {path.name}")

    def _begin(self, model: GPT, tokenizer: "Tokenizer", make_data: MakeData, config: TrainConfig) -> None:
        """Start at step 0."""
        self.config = config
        self.data = make_data(config)
        self._prepare(model)
        model.native.dropout_state = (config.seed, 0)
        self.state = TrainState(
            dropout=(config.seed, 0),
            model=model.config.to_dict(),
            data=self.data.fingerprint,
            tokenizer=tokenizer.fingerprint,
        )

    def _prepare(self, model: GPT) -> None:
        self.trains = prepare(model, self.config)
        self.optimizer = make_optimizer(model, self.config)


def prepare(model: GPT, config: TrainConfig) -> list[str]:
    """Make `model` compute and train as `config`, which is resolved, says; gives what is to be said about it."""
    model.dtype = config.dtype or model.dtype
    model.gradient_checkpointing = config.gradient_checkpointing
    return choose_trained(model, config)


def make_optimizer(model: GPT, config: TrainConfig) -> Optimizer:
    """Make the optimizer that `config` names, for `model`."""
    rate, decay = config.learning_rate, config.weight_decay
    betas = (config.adam_beta1, config.adam_beta2)
    match config.optimizer:
        case "sgd":
            return SGD(model, rate, momentum=config.momentum, weight_decay=decay)
        case "lion":
            return Lion(model, rate, betas=betas, weight_decay=decay)
        case "muon":
            return Muon(
                model,
                config.muon_rate,
                adam_learning_rate=rate,
                momentum=config.muon_momentum,
                weight_decay=decay,
                adjust_lr=config.muon_adjust_lr,
                betas=betas,
                eps=config.adam_epsilon,
            )
        case "adamw":
            return AdamW(model, rate, betas=betas, eps=config.adam_epsilon, weight_decay=decay)
