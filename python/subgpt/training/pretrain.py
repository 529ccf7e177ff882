"""`pretrain`: a model learns to write from running text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from subgpt.data.token_sets import token_sources
from subgpt.errors import ConfigError
from subgpt.model.gpt import GPT
from subgpt.training.callbacks import Callback
from subgpt.training.config import TrainConfig
from subgpt.training.data import TrainingData, text_data, token_data
from subgpt.training.run import Run
from subgpt.training.runner import run_training

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.data.sources import PathSource
    from subgpt.tokenizer import Tokenizer


def pretrain(
    model: GPT,
    tokenizer: "Tokenizer",
    source: "DocumentSource | Mapping[PathSource, float]",
    config: TrainConfig | None = None,
    *,
    output_dir: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] | None = None,
) -> Run:
    """Train `model` on `source`; every position of every window is an example.

    source: a path, directory, glob, or an iterable of texts. Or what is ids already: a directory that
    `prepare_data` made, nanoGPT's or llm.c's .bin files, a list of these ("DIR:0.7" with a weight), or a
    mapping of them to weights, by which windows are drawn; they are mapped into memory, and bring what is held
    out. config: settings, `TrainConfig()` if not given.
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

    def data(settings: TrainConfig) -> TrainingData:
        named = token_sources(source)
        if named is None:
            return text_data(cast("DocumentSource", source), tokenizer, settings)
        return token_data(named, tokenizer, settings)

    return run_training(
        model,
        tokenizer,
        data,
        config,
        verb="pretrain",
        output_dir=output_dir,
        resume=resume,
        callbacks=callbacks,
        defaults={},
        watch=lambda *_: {},
    )
