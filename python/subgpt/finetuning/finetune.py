"""`finetune`: a model that can write learns a voice, a domain, or to answer; what it forgets is measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.evaluation.evaluate import held_out_source
from subgpt.evaluation.measure import HeldOut
from subgpt.finetuning.data import finetuning_data
from subgpt.model.gpt import GPT
from subgpt.training.callbacks import Callback
from subgpt.training.config import TrainConfig
from subgpt.training.data import TrainingData, fingerprint
from subgpt.training.run import Run
from subgpt.training.runner import run_training

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.data.instruct import ExampleSource
    from subgpt.tokenizer import Tokenizer

DEFAULTS: dict[str, Any] = {"learning_rate": 1e-4, "max_steps": 200, "eval_steps": 50}
"""Settings where none are given: a tenth of pretraining's rate, so that what is known is not washed out."""


def finetune(
    model: GPT,
    tokenizer: "Tokenizer",
    source: "DocumentSource | ExampleSource",
    config: TrainConfig | None = None,
    *,
    old_source: "DocumentSource | ExampleSource | None" = None,
    eval_source: "DocumentSource | ExampleSource | None" = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] | None = None,
) -> Run:
    """Train `model` further on `source`, in place.

    source: running text as for `pretrain`, or `.jsonl` with prompt and completion, question and answer,
    instruction and output, or messages: then the loss is on the answers only. old_source: what the model was
    trained on before, to see what it forgets. eval_source: held-out data of the new kind; without it a part
    of `source` is held out.

    The Run has `before` and `after`: the `Evaluation` of "new" and, if given, "old" data. Everything else is
    as for `pretrain`.
    """

    def make_data(settings: TrainConfig) -> TrainingData:
        if eval_source is None:
            return finetuning_data(source, tokenizer, settings)
        data = finetuning_data(
            source, tokenizer, settings.replace(val_fraction=0.0, early_stopping_patience=None)
        )
        held_out = _held_out(eval_source, settings)
        both = f"{data.fingerprint}+{fingerprint([array for batch in held_out.batches() for array in batch])}"
        return TrainingData(data.loader, data.tokens, held_out, both, data.notes)

    def watch(data: TrainingData, settings: TrainConfig) -> Mapping[str, HeldOut]:
        watched = {} if data.held_out is None else {"new": data.held_out}
        if old_source is not None:
            watched["old"] = _held_out(old_source, settings)
        return watched

    def _held_out(data: "DocumentSource | ExampleSource", settings: TrainConfig) -> HeldOut:
        return held_out_source(
            data,
            tokenizer,
            block_size=settings.block_size or model.config.block_size,
            batch_size=settings.batch_size,
            text_field=settings.text_field,
            errors=settings.errors,
        )

    return run_training(
        model,
        tokenizer,
        make_data,
        config,
        verb="finetune",
        output_dir=output_dir,
        resume=resume,
        callbacks=callbacks,
        defaults=DEFAULTS,
        watch=watch,
    )
