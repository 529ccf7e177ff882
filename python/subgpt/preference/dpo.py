"""`dpo`: a model learns from preferences, without a reward model and without sampling."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subgpt.checkpoint.load import read_json
from subgpt.checkpoint.run_directory import RunDirectory, write_json
from subgpt.data.examples import padding_id
from subgpt.data.form import Form
from subgpt.data.loader import Batches
from subgpt.data.masking import TokenExample
from subgpt.data.split import check_fraction, in_validation, text_hash
from subgpt.distributed.launch import is_main
from subgpt.errors import CheckpointError, ConfigError, DataError
from subgpt.evaluation.measure import HeldOut
from subgpt.finetuning.data import choose_form
from subgpt.model.gpt import GPT
from subgpt.preference.loss import dpo_loss
from subgpt.preference.pairs import Pair, PairBatch, PairLoader, log_probs, read_pairs
from subgpt.training.callbacks import Callback
from subgpt.training.config import TrainConfig
from subgpt.training.data import TrainingData
from subgpt.training.objective import Objective
from subgpt.training.run import Run
from subgpt.training.runner import run_training
from subgpt.training.trained import quantize_base, tuning_defaults

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.data.instruct import ExampleSource
    from subgpt.model.listener import GradientListener
    from subgpt.tokenizer import Tokenizer

DEFAULTS: dict[str, Any] = {"learning_rate": 1e-5, "max_steps": 200, "eval_steps": 50, "weight_decay": 0.0}
"""Settings where none are given: rates of fine-tuning make a model forget how to write here."""
BETA, LABEL_SMOOTHING = 0.1, 0.0


def dpo(
    model: GPT,
    tokenizer: "Tokenizer",
    source: "ExampleSource",
    config: TrainConfig | None = None,
    *,
    beta: float = BETA,
    label_smoothing: float = LABEL_SMOOTHING,
    chat_template: "ChatTemplate | None" = None,
    output_dir: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] | None = None,
) -> Run:
    """Train `model` on preferences, in place: chosen answers become more probable than rejected ones.

    source: rows (in files or not, as for `finetune`) with prompt, chosen and rejected, or with whole conversations
    as chosen and rejected. beta, label_smoothing: see `dpo_loss`. The reference is the model as it is given, in
    the run's dtype and on the base that `config.quantize_base` makes of it; its log-probabilities are computed once,
    before the first update, and kept in the run directory. A part of the prompts is held out: the Run has `before` and
    `after` with the loss on them ("preferences": ln 2 where nothing was learnt). Everything else is as for `finetune`.

    resume: needs the beta and label_smoothing that the run began with; ConfigError names one that is another.
    Raises InvalidValueError for those that cannot be.
    """
    own_template = chat_template or model.chat_template
    objective = Preference(beta, label_smoothing)
    # Kept once nothing is left that could refuse the run.
    reference: list[tuple[Path, dict[str, Any]]] = []

    def make_data(settings: TrainConfig) -> TrainingData:
        if settings.packing:
            raise ConfigError("packing = True is not in this version of dpo; leave it out")
        form = choose_form(settings, tokenizer, own_template)
        model.chat_template = form.template
        pairs = read_pairs(source, errors=settings.errors, free_turns=form.template is not None)
        train, held = _split(pairs, settings.val_fraction, settings.seed)
        loaders = [_loader(part, tokenizer, form, settings) for part in (train, held) if part]
        digest = hashlib.blake2b(digest_size=16)
        for loader in loaders:
            loader.add_to(digest)
        data = f"{digest.hexdigest()}+dpo{beta}+{label_smoothing}"
        reference[:] = _remember(
            loaders, model, settings, data, objective, output_dir or settings.output_dir, resume
        )
        return TrainingData(
            loader=loaders[0],
            tokens=loaders[0].targets,
            held_out=_held_out(loaders[1], objective, settings.batch_size) if held else None,
            fingerprint=data,
            notes=(loaders[0].describe(), f"{len(held)} pairs are held out, by prompt"),
            objective=objective,
            padded=True,
        )

    def watch(data: TrainingData, _: TrainConfig) -> Mapping[str, HeldOut]:
        for place, values in reference:
            write_json(place, values)
        return {} if data.held_out is None else {"preferences": data.held_out}

    return run_training(
        model,
        tokenizer,
        make_data,
        config,
        verb="dpo",
        output_dir=output_dir,
        resume=resume,
        callbacks=callbacks,
        defaults=tuning_defaults(DEFAULTS, config),
        watch=watch,
    )


class Preference(Objective):
    """The mean DPO loss over all pairs of a step."""

    unit, sequences = "pairs", 2

    def __init__(self, beta: float, label_smoothing: float) -> None:
        self.beta, self.label_smoothing = beta, label_smoothing
        self.losses([0.0], [0.0], [0.0], [0.0])  # what cannot be is refused before anything is read

    def losses(self, chosen: Any, rejected: Any, ref_chosen: Any, ref_rejected: Any) -> Any:
        """Give `dpo_loss` of pairs."""
        options = {"beta": self.beta, "label_smoothing": self.label_smoothing}
        return dpo_loss(chosen, rejected, ref_chosen, ref_rejected, **options)

    def of(self, model: GPT, batch: PairBatch) -> Any:
        """Give `dpo_loss` of a batch."""
        chosen, rejected = log_probs(model, batch).reshape(2, -1)
        return self.losses(chosen, rejected, *batch.reference.reshape(2, -1))

    def measure(self, model: GPT, batch: PairBatch) -> tuple[float, int]:
        """Give the mean loss of a batch, and its pairs."""
        losses = self.of(model, batch).losses
        return float(losses.mean()), len(losses)

    def count(self, batch: PairBatch) -> int:
        """Count the pairs."""
        return len(batch.ids) // 2

    def add_gradient(
        self, model: GPT, batch: PairBatch, total: int, listener: "GradientListener | None" = None
    ) -> float:
        """Make one backward pass for each answer, those of a pair one after the other.

        The gradient is, for each answer, a factor times that of its log-probability: minus the sum of its tokens'
        losses.
        """
        loss = self.of(model, batch)
        pairs = self.count(batch)
        slopes = np.concatenate([loss.grad_chosen, -loss.grad_chosen]) / total
        order = np.arange(2 * pairs).reshape(2, pairs).T.ravel()
        for row in order:
            targets = batch.targets[row]
            kept = np.flatnonzero(targets >= 0)
            width = int(kept[-1]) + 1
            model.backward(
                batch.ids[row, :width],
                targets[:width],
                scale=-float(slopes[row]) * len(kept),
                listener=listener if row == order[-1] else None,
            )
        return float(loss.losses.sum()) / total

    def size(self, batch: PairBatch) -> int:
        """Count its pairs."""
        return self.count(batch)

    def rows(self, batch: PairBatch, start: int, stop: int) -> PairBatch:
        """Give pairs `start` to `stop`, the chosen answers first."""
        pairs = self.count(batch)
        rows = [*range(start, stop), *range(pairs + start, pairs + stop)]
        return PairBatch(batch.ids[rows], batch.targets[rows], batch.reference[rows])

    def masks(self, counts: Sequence[Sequence[int]], number: int, part: int, start: int) -> tuple[int, int]:
        """Count the answers before: each is a pass of its own."""
        del start
        before = sum(map(sum, counts[:number])) + (sum(counts[number][:part]) if number < len(counts) else 0)
        return 2 * before, 0


def _split(pairs: list[Pair], val_fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Divide pairs by a hash of the prompt; neither side is empty where there are two prompts."""
    check_fraction(val_fraction)
    prompts = [repr(pair.chosen.messages[:-1]) for pair in pairs]
    if val_fraction == 0 or len(set(prompts)) < 2:
        return pairs, []
    ranked = sorted(set(prompts), key=lambda prompt: (text_hash(prompt, seed), prompt))
    held = {prompt for prompt in ranked if in_validation(prompt, val_fraction=val_fraction, seed=seed)}
    held = (held | {ranked[0]}) - {ranked[-1]}
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair, prompt in zip(pairs, prompts, strict=True):
        sides[prompt in held].append(pair)
    return sides


def _loader(pairs: list[Pair], tokenizer: "Tokenizer", form: Form, config: TrainConfig) -> PairLoader:
    last = Form(form.template, "last")
    chosen, rejected = (last.tokenize(list(side), tokenizer) for side in zip(*pairs, strict=True))
    _check(chosen, rejected)
    return PairLoader(
        chosen,
        rejected,
        block_size=config.block_size or 1,
        batch_size=config.batch_size,
        seed=config.seed,
        pad=padding_id(tokenizer),
    )


def _check(chosen: list[TokenExample], rejected: list[TokenExample]) -> None:
    for one, other in zip(chosen, rejected, strict=True):
        if np.array_equal(one.ids, other.ids):
            raise DataError(f"{one.origin}: chosen and rejected are the same tokens; remove the row")


def _remember(
    loaders: list[PairLoader],
    model: GPT,
    config: TrainConfig,
    data: str,
    objective: Preference,
    output_dir: str | Path | None,
    resume: bool,
) -> list[tuple[Path, dict[str, Any]]]:
    """Compute the reference, or read what the run that goes on began with: its model has changed since.

    Gives what is to be kept of it, and where. config: resolved. The reference computes in the run's dtype and on its
    quantized base: before the first update the model that is trained is the reference itself.
    """
    options = {"beta": objective.beta, "label_smoothing": objective.label_smoothing}
    place = None if output_dir is None else RunDirectory(output_dir).reference
    kept = read_json(place) if resume and place is not None and place.exists() else {}
    if not isinstance(kept, dict):
        kept = {}
    for name, value in options.items():
        if (before := kept.get(name, value)) != value:
            raise ConfigError(
                f"resume {output_dir}: {name} was {before!r}, is {value!r}; give the one before, or start a new run"
            )
    if kept.get("data") == data:
        try:
            for loader, values in zip(loaders, kept["log_probs"], strict=True):
                loader.reference[:] = values
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(
                f"{place}: holds no log-probabilities of these pairs; remove it and the run's checkpoints, and "
                "start a new run"
            ) from None
        return []
    model.dtype = config.dtype or model.dtype
    quantize_base(model, config)
    for loader in loaders:
        loader.remember(model)
    if place is None or not is_main() or kept:  # what goes on with other data is refused, and stays
        return []
    log_probs = [loader.reference.tolist() for loader in loaders]
    return [(place, {"data": data, **options, "log_probs": log_probs})]


def _held_out(loader: PairLoader, objective: Preference, batch_size: int) -> HeldOut:
    batches = Batches(
        range(0, len(loader), batch_size),
        lambda first: loader.pairs(np.arange(first, min(first + batch_size, len(loader)))),
    )
    return HeldOut(batches, len(loader), loss=objective.measure, unit=objective.unit)
