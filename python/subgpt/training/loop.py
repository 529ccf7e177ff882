"""The training loop. Everything a run does, in the order in which it does it, on one page."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from subgpt.checkpoint.checkpoints import TrainState
from subgpt.errors import DataError, LossError
from subgpt.evaluation.measure import HeldOut, measure
from subgpt.model.gpt import GPT
from subgpt.training.config import TrainConfig
from subgpt.training.data import Loader
from subgpt.training.interrupt import Interrupts
from subgpt.training.objective import NEXT_TOKEN, Objective
from subgpt.training.optimizers import Optimizer
from subgpt.training.recorder import Recorder


@dataclass
class Job:
    """All that the loop works on. `save` and `keep_best` keep the weights, `sample` writes a text."""

    model: GPT
    optimizer: Optimizer
    loader: Loader
    held_out: HeldOut | None
    objective: Objective
    config: TrainConfig
    state: TrainState
    recorder: Recorder
    save: Callable[[], None]
    keep_best: Callable[[], None]
    sample: Callable[[], str]


def train(job: Job) -> None:
    """Make the updates from `job.state.step` to `config.max_steps`, or until signal or patience ends it.

    Raises LossError, before the weights are touched, at the first loss or gradient that is not finite.
    """
    config, state, recorder = job.config, job.state, job.recorder
    with Interrupts() as interrupts:
        if state.step == 0:
            validate(job)
        while state.step < config.max_steps and not out_of_patience(job):
            begin = time.monotonic()
            passes = config.gradient_accumulation_steps
            batches = [job.loader.batch(state.step * passes + i) for i in range(passes)]
            rate = config.learning_rate_at(state.step)
            own = rate * (job.optimizer.learning_rate / config.learning_rate)  # Muon's is another
            limit, number = config.max_grad_norm, state.step + 1
            result = update(job.model, job.optimizer, batches, own, limit, number, job.objective)
            state.step += 1
            state.tokens += result.tokens
            took = time.monotonic() - begin
            recorder.step(state.step, result.loss, rate, result.grad_norm, result.tokens, took)

            finished = state.step == config.max_steps
            if finished or due(state.step, config.eval_steps):
                validate(job)
            if due(state.step, config.sample_steps):
                recorder.sample(state.step, config.sample_prompt, job.sample())
            recorder.run.interrupted = interrupts.requested is not None and not finished
            ending = finished or recorder.run.interrupted or out_of_patience(job)
            if ending or due(state.step, config.save_steps):
                job.save()
            if recorder.run.interrupted:
                break
        recorder.run.stopped_early = out_of_patience(job) and state.step < config.max_steps


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
) -> Update:
    """Update the weights once from `batches`; `max_grad_norm` 0 means no clipping."""
    loss, total = objective.backward(model, batches)
    if total == 0:
        raise DataError(
            f"step {step}: every target is masked, there is nothing to learn; check answers and block_size"
        )
    norm = model.clip_grad_norm(max_grad_norm) if max_grad_norm else model.grad_norm()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise _not_finite(model, loss, norm, step)
    optimizer.step(rate)
    model.zero_grad()
    return Update(loss, norm, total)


def validate(job: Job) -> None:
    """Measure the held-out loss, remember whether it is the best, keep the weights if they should be."""
    if job.held_out is None:
        return
    seen = measure(job.model, job.held_out)
    if not math.isfinite(seen.loss):
        raise _not_finite(job.model, seen.loss, math.nan, job.state.step)
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


def _not_finite(model: GPT, loss: float, norm: float, step: int) -> LossError:
    """Make the error for a broken step, naming the first tensor that is broken; clear the gradients."""
    weight = model.native.first_nonfinite("param")
    gradient = model.native.first_nonfinite("grad")
    model.zero_grad()
    where = f"weight {weight}" if weight else f"gradient of {gradient}" if gradient else "the loss itself"
    return LossError(
        f"step {step}: loss {loss:g}, gradient norm {norm:g}, first not finite: {where}; checkpoints made "
        "before are good: lower learning_rate, lengthen warmup_steps or set max_grad_norm, and start again"
    )
