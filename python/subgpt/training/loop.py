"""The training loop. Everything a run does, in the order in which it does it, on one page."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from subgpt.checkpoint.checkpoints import TrainState
from subgpt.data.loader import Batches
from subgpt.errors import DataError
from subgpt.evaluation.measure import HeldOut
from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.data import Loader
from subgpt.training.guard import BadStepError, is_spike, not_finite, remember, spiked
from subgpt.training.interrupt import Interrupts
from subgpt.training.make_optimizer import own_rate
from subgpt.training.objective import NEXT_TOKEN, Objective
from subgpt.training.optimizers import Optimizer
from subgpt.training.recorder import Recorder
from subgpt.training.workers import ALONE, Workers


@dataclass
class Job:
    """All that the loop works on. `save` and `keep_best` keep the weights, `sample` writes a text.

    save: given True it returns only when the checkpoint is on the disk. look: raises what failed while writing.
    roll_back: goes back to a checkpoint, or raises what it is given.
    """

    model: GPT
    optimizer: Optimizer
    loader: Loader
    held_out: HeldOut | None
    objective: Objective
    config: TrainConfig
    state: TrainState
    recorder: Recorder
    workers: Workers
    save: Callable[[bool], None]
    keep_best: Callable[[], None]
    sample: Callable[[], str]
    look: Callable[[], None]
    roll_back: Callable[[BadStepError], None]


def train(job: Job) -> None:
    """Make the updates from `job.state.step` to `config.max_steps`, or until signal or patience ends it.

    Raises LossError, before the weights are touched, at the first loss or gradient that is not finite, and at one that
    leaps where `on_spike` says so; or goes back to a checkpoint.
    """
    config, state, recorder = job.config, job.state, job.recorder
    with Interrupts() as interrupts:
        if state.step == 0 and config.on_spike == "rollback":
            job.save(True)  # so that there is something to go back to
        while state.step < config.max_steps and not out_of_patience(job):
            # Again where the run went back to its beginning, whose checkpoint was made before.
            if state.step == 0:
                validate(job)
            try:
                advance(job)
                finished = state.step == config.max_steps
                if finished or due(state.step, config.eval_steps):
                    validate(job)
                if due(state.step, config.sample_steps):
                    recorder.sample(state.step, config.sample_prompt, job.sample())
                recorder.run.interrupted = job.workers.any(interrupts.requested is not None) and not finished
                ending = finished or recorder.run.interrupted or out_of_patience(job)
                if ending or due(state.step, config.save_steps):
                    job.save(ending)
                job.look()
            except BadStepError as error:
                job.roll_back(error)
            if recorder.run.interrupted:
                break
        recorder.run.stopped_early = out_of_patience(job) and state.step < config.max_steps


def advance(job: Job) -> None:
    """Make the next update and write it down."""
    config, state, begin = job.config, job.state, time.monotonic()
    passes = config.gradient_accumulation_steps
    first = state.step * passes + state.skipped
    rate = config.learning_rate_at(state.step)
    result = update(
        job.model,
        job.optimizer,
        Batches(range(first, first + passes), job.loader.batch),  # of which each process makes its own
        own_rate(job.optimizer, config, rate),
        config.max_grad_norm,
        state.step + 1,
        job.objective,
        recent=() if config.on_spike == "ignore" else state.recent,
        spike_z_score=config.spike_z_score,
        workers=job.workers,
    )
    state.step += 1
    state.tokens += result.tokens
    remember(state.recent, result.loss)
    took = time.monotonic() - begin
    job.recorder.step(state.step, result.loss, rate, result.grad_norm, result.tokens, took)


class Update(NamedTuple):
    """What an update did: mean loss in nats before it, gradient norm before clipping, targets."""

    loss: float
    grad_norm: float
    tokens: int


def update(
    model: GPT,
    optimizer: Optimizer,
    batches: Sequence[Any],
    rate: float,
    max_grad_norm: float,
    step: int,
    objective: Objective = NEXT_TOKEN,
    *,
    recent: Sequence[float] = (),
    spike_z_score: float = math.inf,
    workers: Workers = ALONE,
) -> Update:
    """Update the weights once from `batches`; `max_grad_norm` 0 means no clipping.

    Raises BadStepError, with the weights as they were, for a loss or gradient that is not finite, and for a loss more
    than `spike_z_score` deviations above those in `recent`.
    """
    loss, total = workers.backward(model, objective, batches)
    if total == 0:
        raise DataError(
            f"step {step}: every target is masked, there is nothing to learn; check answers and block_size"
        )
    norm = workers.clip(model, max_grad_norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        workers.complete(model)
        raise not_finite(model, loss, norm, step)
    if is_spike(recent, loss, spike_z_score):
        workers.complete(model)
        raise spiked(model, recent, loss, step)
    workers.step(model, optimizer, rate)
    model.zero_grad()
    return Update(loss, norm, total)


def validate(job: Job) -> None:
    """Measure the held-out loss, remember whether it is the best, keep the weights if they should be."""
    if job.held_out is None:
        return
    seen = job.workers.measure(job.model, job.held_out)
    if not math.isfinite(seen.loss):
        raise not_finite(job.model, seen.loss, math.nan, job.state.step)
    state = job.state
    if job.recorder.evaluation(state.step, seen):
        state.best, state.best_step, state.without_gain = seen.loss, state.step, 0
        job.keep_best()
    else:
        state.without_gain += 1


def out_of_patience(job: Job) -> bool:
    """Tell whether validation has not got better for as long as `early_stopping_patience` allows."""
    patience = job.config.early_stopping_patience
    return patience is not None and job.state.without_gain >= patience


def due(step: int, every: int) -> bool:
    """Tell whether something that happens every so many steps happens now; 0 is never."""
    return every > 0 and step % every == 0
