"""`pretrain`: a model learns to write from running text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.errors import ConfigError
from subgpt.model.gpt import GPT
from subgpt.training.callbacks import Callback
from subgpt.training.config import TrainConfig
from subgpt.training.data import text_data
from subgpt.training.run import Run
from subgpt.training.runner import run_training

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.tokenizer import Tokenizer


def pretrain(
    model: GPT,
    tokenizer: "Tokenizer",
    source: "DocumentSource",
    config: TrainConfig | None = None,
    *,
    output_dir: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] | None = None,
) -> Run:
    """Train `model` on `source`; every position of every window is an example.

    source: a path, directory, glob, or an iterable of texts. config: settings, `TrainConfig()` if not given.
    output_dir: the run directory; without one nothing is written. resume: go on from the newest checkpoint
    there, bit for bit as if the run had never stopped. callbacks: who watches; None for a progress bar, ()
    for silence.

    Ctrl-C, SIGTERM or SIGHUP ends the run after the step it is in: a checkpoint is saved and the Run has
    interrupted=True. A second one ends it at once.

    Raises ConfigError, DataError, MissingFileError, CheckpointError, OutputError; LossError if the loss is
    not a number, or leaps, and `config.on_spike` does not have the run go back.
    """
    if isinstance(config, TrainConfig) and config.lora is not None:
        raise ConfigError(
            "pretrain: lora_r is for models that can write already; leave it out, or use finetune"
        )
    return run_training(
        model,
        tokenizer,
        lambda settings: text_data(source, tokenizer, settings),
        config,
        verb="pretrain",
        output_dir=output_dir,
        resume=resume,
        callbacks=callbacks,
        defaults={},
        watch=lambda *_: {},
    )
