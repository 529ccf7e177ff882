"""The learning-rate range test: a short run in which the rate rises, and the loss says which rates learn.

Smith, "Cyclical Learning Rates for Training Neural Networks" (2017, arXiv 1506.01186); as fastai and Lightning have it,
the rate rises exponentially, from one where nothing happens to one that breaks the model. The loss is smoothed by an
exponential average whose beginning is corrected (as Adam's moments are).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from subgpt import _core
from subgpt.adapters.attach import DEFAULT
from subgpt.checkpoint.trained import copy_weights, put_back
from subgpt.errors import ConfigError, LossError
from subgpt.finetuning.data import choose_form, finetuning_data
from subgpt.model.fit import check_fit
from subgpt.search.rates import LrFind, judge
from subgpt.training.config import TrainConfig
from subgpt.training.loop import update
from subgpt.training.make_optimizer import make_optimizer, own_rate
from subgpt.training.start import prepare

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.data.instruct import ExampleSource
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.data import TrainingData
    from subgpt.training.optimizers import Optimizer

MIN_LR, MAX_LR, MAX_LR_SGD, STEPS = 1e-6, 1.0, 10.0, 100
SMOOTHING = 0.9
"""Weight of the past in the average: about the last ten steps are seen, a tenth of a usual test."""
FEWEST = 10

OnStep = Callable[[int, float, float, float], None]
"""Called after each step with its number from 1, the rate, the loss and the smoothed loss."""


def lr_find(
    model: "GPT",
    tokenizer: "Tokenizer",
    source: "DocumentSource | ExampleSource",
    config: TrainConfig | None = None,
    *,
    min_lr: float = MIN_LR,
    max_lr: float | None = None,
    steps: int = STEPS,
    divergence: float = 4.0,
    on_step: OnStep | None = None,
) -> LrFind:
    """Train `model` on `source` with a rate that rises from `min_lr` to `max_lr`, and put it back as it was.

    max_lr: 1 if not given, and 10 for sgd, whose rates are higher.

    source: running text as for `pretrain`, or rows with answers as for `finetune`. config: batch size, optimizer and
    everything else of the run to come; its schedule and number of steps play no part. The test ends early where the
    smoothed loss is above `divergence` times its lowest, or no number any more. Nothing is written.

    Of Muon the rate is that of `learning_rate`, which the matrices' follows in the proportion that `config` gives.

    Raises ConfigError for a range that is none, and what training raises.
    """
    given = TrainConfig() if config is None else config
    if max_lr is None:
        max_lr = MAX_LR_SGD if isinstance(given, TrainConfig) and given.optimizer == "sgd" else MAX_LR
    _check(given, min_lr, max_lr, steps, divergence)
    check_fit(model, tokenizer, "lr_find")
    settings = given.resolved(model.config.block_size, model.dtype)
    data = finetuning_data(source, tokenizer, settings, choose_form(settings, tokenizer, model.chat_template))
    rates = [min_lr * (max_lr / min_lr) ** (i / (steps - 1)) for i in range(steps)]
    with _put_back(model, settings):
        return _test(model, data, settings, rates, divergence, on_step)


def _test(
    model: "GPT",
    data: "TrainingData",
    config: TrainConfig,
    rates: list[float],
    divergence: float,
    on_step: OnStep | None,
) -> LrFind:
    """Make one update at each rate, until the loss is beyond bounds."""
    optimizer = make_optimizer(model, config)
    losses: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, False
    for i, rate in enumerate(rates):
        try:
            loss = _step(model, optimizer, data, config, i, rate)
        except LossError:  # nothing was changed by it, but what was changed before cannot be trained
            diverged = True
            break
        losses.append(loss)
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING ** (i + 1)))
        if on_step is not None:
            on_step(i + 1, rate, loss, smoothed[-1])
        if smoothed[-1] > divergence * min(smoothed):
            diverged = True
            break
    if not losses:
        raise LossError(
            f"lr_find: the loss is no number at the lowest rate, {rates[0]:g}; give a lower min_lr"
        )
    return judge(rates[: len(losses)], losses, smoothed, diverged=diverged, optimizer=config.optimizer)


def _step(
    model: "GPT", optimizer: "Optimizer", data: "TrainingData", config: TrainConfig, step: int, rate: float
) -> float:
    """Make update number `step` from 0 and give the loss before it."""
    passes = config.gradient_accumulation_steps
    batches = [data.loader.batch(step * passes + i) for i in range(passes)]
    own = own_rate(optimizer, config, rate)
    return update(model, optimizer, batches, own, config.max_grad_norm, step + 1, data.objective).loss


@contextmanager
def _put_back(model: "GPT", config: TrainConfig) -> Iterator[None]:
    """Make the model ready for training, and leave it as it was found however that ends.

    Its weights or adapter, precision, dropout and gradients, and what of it is frozen.
    """
    trained = set(_core.trained_names(model.native))
    dtype, checkpointing = model.dtype, model.gradient_checkpointing
    dropout, adapter = model.native.dropout_state, model.active_adapter
    try:
        prepare(model, config)
        model.native.dropout_state = (config.seed, 0)
        weights = copy_weights(model)
        try:
            yield
        finally:
            put_back(model, weights)
    finally:
        if adapter is None:  # under one all weights stay as they are, whatever was frozen before
            if model.active_adapter is not None:
                model.delete_adapter(DEFAULT)
            _core.train_only(model.native, trained)
        model.dtype, model.gradient_checkpointing = dtype, checkpointing
        model.native.dropout_state = dropout
        model.zero_grad()


def _check(config: TrainConfig, min_lr: float, max_lr: float, steps: int, divergence: float) -> None:
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"lr_find: config is {type(config).__name__}; give a TrainConfig")
    if not 0 < min_lr < max_lr < math.inf:
        raise ConfigError(
            f"lr_find: min_lr = {min_lr:g}, max_lr = {max_lr:g}; give two numbers above 0, the lower one first"
        )
    if steps < FEWEST:
        raise ConfigError(f"lr_find: steps = {steps}; a curve needs at least {FEWEST}, and 100 are usual")
    if not divergence > 1:
        raise ConfigError(f"lr_find: divergence = {divergence:g}; give a number above 1, such as 4")
    if config.quantize_base is not None:
        raise ConfigError(
            "lr_find: quantize_base would change the model for good; leave it out, the rate is about the same"
        )
