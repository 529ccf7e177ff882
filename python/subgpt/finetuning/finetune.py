"""`finetune`: a model that can write learns a voice, a domain, or to answer; what it forgets is measured."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.run_directory import write_json
from subgpt.data.form import Form
from subgpt.distributed.launch import is_main
from subgpt.evaluation.evaluate import held_out_source
from subgpt.evaluation.measure import HeldOut
from subgpt.evaluation.probes import Probe, read_probe
from subgpt.finetuning.data import choose_form, finetuning_data
from subgpt.finetuning.recall import recalled
from subgpt.finetuning.recipes import recipe
from subgpt.finetuning.replay import with_replay
from subgpt.model.gpt import GPT
from subgpt.training.callbacks import Callback
from subgpt.training.config import TrainConfig
from subgpt.training.data import TrainingData, fingerprint
from subgpt.training.run import Run
from subgpt.training.runner import run_training
from subgpt.training.trained import tuning_defaults

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.data.documents import DocumentSource
    from subgpt.data.instruct import ExampleSource
    from subgpt.tokenizer import Tokenizer

DEFAULTS: dict[str, Any] = {"learning_rate": 1e-4, "max_steps": 200, "eval_steps": 50}
"""Settings where none are given: a tenth of pretraining's rate, so that what is known is not washed out.

Adapters, under which it stays, have ten times as much.
"""


def finetune(
    model: GPT,
    tokenizer: "Tokenizer",
    source: "DocumentSource | ExampleSource",
    config: TrainConfig | None = None,
    *,
    old_source: "DocumentSource | ExampleSource | None" = None,
    eval_source: "DocumentSource | ExampleSource | None" = None,
    replay_source: "DocumentSource | ExampleSource | None" = None,
    probes: "Mapping[str, ExampleSource] | None" = None,
    chat_template: "ChatTemplate | None" = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] | None = None,
) -> Run:
    """Train `model` further on `source`, in place.

    source: running text as for `pretrain`, also what `prepare_data` made of it, or rows (JSON Lines, CSV, TSV, JSON,
    Parquet, a `datasets.Dataset`) with prompt and completion, question and answer, instruction and output, messages or
    conversations: then the loss is on the answers only, if `config.loss_on` says nothing else. old_source: what the
    model was trained on before, to see what it forgets; of prepared data, what is held out. eval_source: held-out
    data of the new kind; without it a part of `source` is held out. replay_source: old data that is trained on between
    the new, `config.replay_ratio` of the batches, so that less is forgotten; without an old_source a part of it is held
    out as "old". Where no old data is held out, the model writes some texts first (`config.recall_tokens`), and the
    loss on them ("recalled") tells what was forgotten.
    probes: rows with questions that are asked before and after, by names of your own, and compared as
    `config.probe_match` says (see `subgpt.probe`). `config.recipe` names settings for what is not set.
    chat_template: for `config.chat_template="auto"`, in place of `model.chat_template`; the template that was used is
    the model's from then on, and kept in `output_dir`, as chat_template.jinja.

    What is trained is a setting: all weights, those that `config.freeze` leaves, or with `config.lora_r` an adapter
    over them, which is in use afterwards (`GPT.merge_adapter` makes it a part of the weights) and is what
    `output_dir` then holds.

    The Run has `before` and `after`: the `Evaluation` of "new" and of "old" or "recalled" data; and `probes`: of each
    the `ProbeResult` before and after. A run that is interrupted ends without what is after it.
    Everything else is as for `pretrain`.
    """
    own_template = chat_template or model.chat_template
    watched_old: list[HeldOut] = []
    held_back: list[HeldOut] = []  # of what is replayed
    own_texts: list[HeldOut] = []
    kept: list[tuple[Path, list[list[int]]]] = []  # of those

    def form_of(settings: TrainConfig) -> Form:
        return choose_form(settings, tokenizer, own_template)

    def make_data(settings: TrainConfig) -> TrainingData:
        form = form_of(settings)
        asked = {name: _probe(rows, settings, form) for name, rows in (probes or {}).items()}
        notes = [f"probe {name}: {probe.note}" for name, probe in asked.items()]
        data = trained_data(settings, form)
        return dataclasses.replace(data, probes=asked, notes=(*data.notes, *notes))

    def trained_data(settings: TrainConfig, form: Form) -> TrainingData:
        model.chat_template = form.template
        data = new_data(settings, form)
        if replay_source is not None:
            # What is watched as "old" is old_source, where it is given: then all that is replayed is trained on.
            old = finetuning_data(
                replay_source, tokenizer, settings if old_source is None else _all_trained(settings), form
            )
            held_back[:] = [] if old.held_out is None else [old.held_out]
            data = with_replay(data, old, settings.replay_ratio)
        if not is_main():  # which alone watches, and has the run directory
            return data
        if old_source is not None:
            watched_old[:] = [_held_out(old_source, settings)]
        elif not held_back:
            # Before a checkpoint is read: what the model that was given can say.
            own, kept[:] = recalled(model, tokenizer, settings, output_dir or settings.output_dir, resume)
            own_texts[:] = [] if own is None else [own]
        return data

    def new_data(settings: TrainConfig, form: Form) -> TrainingData:
        if eval_source is None:
            return finetuning_data(source, tokenizer, settings, form)
        data = finetuning_data(source, tokenizer, _all_trained(settings), form)
        held_out = _held_out(eval_source, settings)
        both = f"{data.fingerprint}+{fingerprint(array for batch in held_out.batches for array in batch)}"
        return dataclasses.replace(data, held_out=held_out, fingerprint=both)

    def watch(data: TrainingData, _settings: TrainConfig) -> Mapping[str, HeldOut]:
        for place, texts in kept:
            write_json(place, texts)
        watched = {} if data.held_out is None else {"new": data.held_out}
        if watched_old:
            watched["old"] = watched_old[0]
        elif held_back:
            watched["old"] = held_back[0]
        elif own_texts:
            watched["recalled"] = own_texts[0]
        return watched

    def _probe(rows: "ExampleSource", settings: TrainConfig, form: Form) -> Probe:
        return read_probe(
            rows,
            tokenizer,
            form,
            block_size=settings.block_size or model.config.block_size,
            match=settings.probe_match,
            errors=settings.errors,
        )

    def _held_out(data: "DocumentSource | ExampleSource", settings: TrainConfig) -> HeldOut:
        return held_out_source(
            data,
            tokenizer,
            block_size=settings.block_size or model.config.block_size,
            batch_size=settings.batch_size,
            text_field=settings.text_field,
            errors=settings.errors,
            form=form_of(settings),
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
        defaults=tuning_defaults(_defaults(config), config),
        watch=watch,
    )


def _all_trained(settings: TrainConfig) -> TrainConfig:
    """Give settings with which data is read to be trained on as a whole."""
    return settings.replace(val_fraction=0.0, early_stopping_patience=None)


def _defaults(config: TrainConfig | None) -> dict[str, Any]:
    """Give the settings that stand where none are given: those of the recipe above the usual ones."""
    name = config.recipe if isinstance(config, TrainConfig) else None
    return DEFAULTS if name is None else {**DEFAULTS, **recipe(name).settings}
