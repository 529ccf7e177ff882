"""How long the steps of a run will take, from steps that are really made.

If some steps of the very model fit the time, they are made and that is all. If not, models of one and of two
of its blocks are timed, as wide and with the same vocabulary and window, on as many of its windows as fit.
Each further block costs what the second did; passes grow with the windows as well, the update does not. Where some of
its blocks are frozen, they are timed as if they were trained, and the `method` says so.
"""

from dataclasses import dataclass

from subgpt import _core
from subgpt.model.config import GPTConfig
from subgpt.performance.memory import for_few_blocks, is_large, with_blocks
from subgpt.performance.steps import Steps, Timing, gflop, timed
from subgpt.training.config import TrainConfig

_LIKELY = 0.4
"""Share of the measured peak that a step is expected to reach, to choose what there is time for."""


@dataclass(frozen=True)
class Calibration:
    """Seconds of a training step and of a forward pass of one batch, and how they were found."""

    step: float
    forward: float
    method: str


def calibrate(model: GPTConfig, config: TrainConfig, seconds: float) -> Calibration:
    """Time a run's steps in about `seconds`; longer where a single window through one block takes longer."""
    speed = _LIKELY * _core.peaks(0.1)[config.dtype or "float32"]
    block_size = config.block_size or model.block_size

    def expected(layers: int, windows: int) -> float:
        return gflop(with_blocks(model, layers), windows, block_size) / speed

    step = expected(model.n_layer, config.batch_size) * config.gradient_accumulation_steps
    if 3 * step < seconds and not is_large(model):
        return _whole(model, config, seconds)
    # Each is timed twice, the first time to warm up, and a forward pass is a third of both passes.
    windows = int(seconds / (3 * (expected(1, 1) + expected(2, 1))))
    return _by_blocks(model, config, max(1, min(windows, config.batch_size)), seconds / 8)


def _whole(model: GPTConfig, config: TrainConfig, seconds: float) -> Calibration:
    steps = Steps(model, config)
    steps.step()
    step = timed(steps.step, 0.75 * seconds, least=2)
    steps.loss()
    forward = timed(steps.loss, 0.2 * seconds)
    return Calibration(step.median, forward.median, f"{step.calls} steps of this model")


def _by_blocks(model: GPTConfig, config: TrainConfig, windows: int, seconds: float) -> Calibration:
    cut = for_few_blocks(model, config)
    one, two = (_parts(with_blocks(model, layers), cut, windows, seconds) for layers in (1, 2))
    more = model.n_layer - 1

    def whole(part: int) -> float:
        return one[part].median + more * max(0.0, two[part].median - one[part].median)

    batches = config.batch_size / windows
    backward, update, forward = whole(0) * batches, whole(1), whole(2) * batches
    return Calibration(
        backward * config.gradient_accumulation_steps + update,
        forward,
        f"passes of {windows} of {config.batch_size} windows through 1 and 2 of {model.n_layer} blocks"
        + (", frozen blocks as if they were trained" if cut.frozen != config.frozen else ""),
    )


def _parts(model: GPTConfig, config: TrainConfig, windows: int, seconds: float) -> tuple[Timing, ...]:
    """Time backward, update and forward, each once to warm up."""
    steps = Steps(model, config, windows)
    timings = []
    for call in (steps.backward, steps.update, steps.loss):
        call()
        timings.append(timed(call, seconds / 3))
    return tuple(timings)
