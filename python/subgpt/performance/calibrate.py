"""How long the steps of a run will take, from steps that are really made.

If some steps of the very model fit the time, they are made and that is all. If not, models of it are timed on as many
of its windows as fit: one block with all that is around the blocks; and a few blocks and one, as wide and with the same
window, but with hardly a vocabulary, whose difference is what each further block costs. (With the vocabulary there
is time for two blocks once, and what is wrong with their difference would count for each block of the model.)
Passes grow with the windows as well, the update does not. Where some of its blocks are frozen, they are timed as if
they were trained, and the `method` says so.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from subgpt import _core
from subgpt.model.config import GPTConfig
from subgpt.performance.memory import for_few_blocks, is_large, with_blocks
from subgpt.performance.steps import Steps, gflop, timed
from subgpt.training.config import TrainConfig

_LIKELY = 0.4
"""Share of the measured peak that a step is expected to reach, to tell whether there is time for whole ones."""
_VOCABULARY = 64
"""Of models whose blocks alone are of interest."""
_FEW = 4
"""Blocks of the larger one of them."""
_CYCLES = 3
"""Steps of each that are timed."""


@dataclass(frozen=True)
class Calibration:
    """Seconds of a training step and of a forward pass of one batch, and how they were found."""

    step: float
    forward: float
    method: str


def calibrate(model: GPTConfig, config: TrainConfig, seconds: float) -> Calibration:
    """Time a run's steps in about `seconds`; longer where a single window through one block takes longer."""
    speed = _LIKELY * _core.peaks(0.1)[config.dtype or "float32"]
    step = config.gradient_accumulation_steps * _work(model, config, config.batch_size) / speed
    if 3 * step < seconds and not is_large(model):
        return _whole(model, config, seconds)
    return _by_blocks(model, config, _windows(model, config, seconds))


def _windows(model: GPTConfig, config: TrainConfig, seconds: float) -> int:
    """Choose how many windows there is time for, by one that is sent through a block."""
    few, one = with_blocks(_bare(model), _few(model)), with_blocks(_bare(model), 1)
    tried = _parts(one, for_few_blocks(model, config), 1, 1)
    # A forward pass is a third of both, and the first of all is to warm up.
    work = 2 * _work(with_blocks(model, 1), config) + (1 + _CYCLES) * (
        _work(one, config) + _work(few, config)
    )
    of_one = 4 / 3 * work * tried[0] / _work(one, config)
    return max(1, min(int(seconds / of_one), config.batch_size))


def _work(model: GPTConfig, config: TrainConfig, windows: int = 1) -> float:
    """Count the arithmetic of both passes of some windows."""
    return gflop(model, windows, config.block_size or model.block_size)


def _few(model: GPTConfig) -> int:
    """Choose how many blocks are timed beside one."""
    return min(_FEW, model.n_layer)


def _bare(model: GPTConfig) -> GPTConfig:
    """Give the same shape with hardly a vocabulary."""
    return model.replace(vocab_size=min(_VOCABULARY, model.vocab_size))


def _whole(model: GPTConfig, config: TrainConfig, seconds: float) -> Calibration:
    steps = Steps(model, config)
    steps.step()
    step = timed(steps.step, 0.75 * seconds, least=2)
    steps.loss()
    forward = timed(steps.loss, 0.2 * seconds)
    return Calibration(step.median, forward.median, f"{step.calls} steps of this model")


def _by_blocks(model: GPTConfig, config: TrainConfig, windows: int) -> Calibration:
    cut, few = for_few_blocks(model, config), _few(model)
    around = _parts(with_blocks(model, 1), cut, windows, 1)
    one, several = (_parts(with_blocks(_bare(model), layers), cut, windows, _CYCLES) for layers in (1, few))

    def whole(part: int) -> float:
        block = max(0.0, several[part] - one[part]) / max(few - 1, 1)
        return around[part] + (model.n_layer - 1) * block

    batches = config.batch_size / windows
    backward, update, forward = whole(0) * batches, whole(1), whole(2) * batches
    return Calibration(
        backward * config.gradient_accumulation_steps + update,
        forward,
        f"passes of {windows} of {config.batch_size} windows through 1 and {few} of {model.n_layer} blocks"
        + (", frozen blocks as if they were trained" if cut.frozen != config.frozen else ""),
    )


def _parts(model: GPTConfig, config: TrainConfig, windows: int, cycles: int) -> tuple[float, float, float]:
    """Time backward, update and forward: the medians of some calls each, behind one to warm up.

    The first two in turns, as in a run: a pass after an update has changed weights to prepare.
    """
    steps = Steps(model, config, windows)
    turns = [(_seconds(steps.backward), _seconds(steps.update)) for _ in range(1 + cycles)]
    backward, update = zip(*turns[1:], strict=True)
    steps.loss()
    forward = [_seconds(steps.loss) for _ in range(cycles)]
    return statistics.median(backward), statistics.median(update), statistics.median(forward)


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
