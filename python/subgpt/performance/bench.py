"""`bench`: how fast training steps are here, and where their time goes."""

import time
from dataclasses import dataclass

import subgpt
from subgpt import _core
from subgpt.machine import check_room
from subgpt.model.config import GPTConfig
from subgpt.performance.estimate import estimate
from subgpt.performance.steps import Steps, gflop, timed
from subgpt.training.config import TrainConfig

_PEAK_SECONDS = 0.5


@dataclass(frozen=True)
class Operation:
    """An operation of a step: calls and seconds a step, its part of the step, its speed.

    rate: GFLOP/s for a product ("GFLOP/s"), GB/s read and written for everything else. of_limit: the part of
    this machine's measured peak (products) or memory bandwidth (everything else) that this is; above 1 where
    the data lay in a cache.
    """

    name: str
    calls: float
    seconds: float
    share: float
    rate: float
    unit: str
    of_limit: float


@dataclass(frozen=True)
class Bench:
    """What was measured.

    step_seconds: median. peak: GFLOP/s of this dtype from registers, on all threads; bandwidth: GB/s of a copy
    through memory, read and written. operations: where a step's time went, longest first; rest: the part of
    it that no operation accounts for. Both are there only if asked for.
    """

    parameters: int
    dtype: str
    isa: str
    threads: int
    batch_size: int
    block_size: int
    steps: int
    step_seconds: float
    fastest_seconds: float
    tokens_per_second: float
    gflops: float
    peak: float
    of_peak: float
    bandwidth: float
    operations: tuple[Operation, ...] = ()
    rest: float | None = None


def bench(
    model: GPTConfig, config: TrainConfig | None = None, *, seconds: float = 5.0, profile: bool = False
) -> Bench:
    """Time training steps of a model of this shape on random ids for about `seconds`.

    config: batch, window, optimizer, dtype, `TrainConfig()` if not given. profile: for as long again, time
    every operation by itself. Raises OutOfMemoryError if the model is beyond this machine.
    """
    settings = (config or TrainConfig()).resolved(model.block_size)
    check_room(estimate(model, settings, seconds=0).total_bytes)
    steps = Steps(model, settings)
    steps.step()
    peaks = _core.peaks(_PEAK_SECONDS)
    timing = timed(steps.step, seconds, least=3)
    passes, block_size = settings.gradient_accumulation_steps, settings.block_size or model.block_size
    speed = passes * gflop(model, settings.batch_size, block_size) / timing.median
    peak = peaks[steps.model.dtype]
    operations, rest = _profile(steps, seconds, peak, peaks["copy"]) if profile else ((), None)
    return Bench(
        parameters=steps.model.num_params(),
        dtype=steps.model.dtype,
        isa=subgpt.isa(),
        threads=subgpt.get_num_threads(),
        batch_size=settings.batch_size,
        block_size=block_size,
        steps=timing.calls,
        step_seconds=timing.median,
        fastest_seconds=timing.fastest,
        tokens_per_second=passes * settings.batch_size * block_size / timing.median,
        gflops=speed,
        peak=peak,
        of_peak=speed / peak,
        bandwidth=peaks["copy"],
        operations=operations,
        rest=rest,
    )


def _profile(
    steps: Steps, seconds: float, peak: float, bandwidth: float
) -> tuple[tuple[Operation, ...], float]:
    """Time the operations of some steps; give them, longest first, and the part of a step that is none."""
    _core.profile_start()
    begin = time.perf_counter()
    try:
        count = timed(steps.step, seconds, least=2).calls
        wall = time.perf_counter() - begin
    finally:
        records = _core.profile_stop()
    operations = [
        _operation(
            name, calls / count, took / count, took / wall, flop / count, size / count, peak, bandwidth
        )
        for name, calls, took, flop, size in records
    ]
    operations.sort(key=lambda operation: -operation.seconds)
    return tuple(operations), 1.0 - sum(operation.share for operation in operations)


def _operation(
    name: str,
    calls: float,
    seconds: float,
    share: float,
    flop: float,
    size: float,
    peak: float,
    bandwidth: float,
) -> Operation:
    work, unit, limit = (flop, "GFLOP/s", peak) if flop else (size, "GB/s", bandwidth)
    rate = work / seconds / 1e9 if seconds > 0 else 0.0
    return Operation(name, calls, seconds, share, rate, unit, rate / limit)
