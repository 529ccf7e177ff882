"""`estimate`: what a training run will take, before it is started."""

from contextlib import suppress
from dataclasses import dataclass

from subgpt.errors import ConfigError
from subgpt.machine import memory_limit, resident, too_much
from subgpt.model.config import GPTConfig
from subgpt.performance.calibrate import calibrate
from subgpt.performance.memory import native_memory
from subgpt.training.config import TrainConfig


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    memory: bytes by what they are for: "process" (Python, this package and whatever else this process holds
    now), "optimizer" (its moments), "parameters", "gradients", "packed" (weights in the order in which products
    read them), "activations", "validation"; the text and its ids come on top. memory_limit: bytes that this process may
    have, None if unknown. Frozen blocks of a model too large to be made for this count as if they were trained.
    step_seconds, total_seconds: of a step, and of the run with its validations but without reading the
    text; None if no time was measured. Validations with eval_batches = 0, over all that is held out, are not counted:
    how much that is, only the text tells. method: how it was measured.
    """

    parameters: int
    dtype: str
    memory: dict[str, int]
    memory_limit: int | None
    tokens_per_step: int
    max_steps: int
    step_seconds: float | None = None
    total_seconds: float | None = None
    method: str = ""

    @property
    def total_bytes(self) -> int:
        """All memory together."""
        return sum(self.memory.values())

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens learnt from in a second of training."""
        return None if self.step_seconds is None else self.tokens_per_step / self.step_seconds

    @property
    def warning(self) -> str | None:
        """What to do if the run does not fit; None if it does."""
        return too_much(self.total_bytes, self.memory_limit)


def estimate(model: GPTConfig, config: TrainConfig | None = None, *, seconds: float = 2.0) -> Estimate:
    """Foretell memory and time of training a model of this shape on this machine.

    model: the shape. config: the settings of the run, `TrainConfig()` if not given; its output_dir is not
    touched, only counted with what it takes to draw a run's losses. seconds: how long real
    steps may be timed (see `subgpt.performance.calibrate`); 0 for memory alone.

    >>> seen = estimate(GPTConfig.preset("nano"), TrainConfig(batch_size=4), seconds=0)
    >>> seen.parameters, seen.memory["gradients"] // 1_000_000, seen.warning
    (1858304, 7, None)
    """
    if not isinstance(model, GPTConfig):
        raise ConfigError(f"estimate: model is {type(model).__name__}; give a GPTConfig")
    settings = TrainConfig() if config is None else config
    if not isinstance(settings, TrainConfig):
        raise ConfigError(f"estimate: config is {type(settings).__name__}; give a TrainConfig")
    settings = settings.resolved(model.block_size)
    process = _this_process(draws=settings.output_dir is not None)
    native = native_memory(model, settings)
    time = calibrate(model, settings, seconds) if seconds > 0 else None
    return Estimate(
        parameters=model.num_params(),
        dtype=settings.dtype or "float32",
        memory={"process": process, **native},
        memory_limit=memory_limit(),
        tokens_per_step=settings.batch_size
        * (settings.block_size or model.block_size)
        * settings.gradient_accumulation_steps,
        max_steps=settings.max_steps,
        step_seconds=None if time is None else time.step,
        total_seconds=None if time is None else _total(settings, time.step, time.forward),
        method="" if time is None else time.method + _uncounted(settings),
    )


def _this_process(draws: bool) -> int:
    """Give the memory of this process without the run's own, with all that a run imports.

    draws: the run has a directory, and so a picture of its losses at its end if matplotlib is there.
    """
    _train_a_little()
    if draws:
        with suppress(ImportError):
            import matplotlib.backends.backend_agg
            import matplotlib.figure  # noqa: F401
    return resident() or 0


def _train_a_little() -> None:
    """Update the smallest model once: what a run reads on its way, modules and code, is in memory then.

    Not with `pretrain`, which several processes that were started together would do together.
    """
    import numpy as np

    import subgpt.tokenizer
    import subgpt.training.pretrain  # noqa: F401
    from subgpt.model.gpt import GPT
    from subgpt.training.loop import update
    from subgpt.training.optimizers import AdamW

    model = GPT(GPTConfig(8, block_size=8, n_layer=1, n_head=1, n_embd=8), seed=0)
    batch = (np.zeros((1, 8), np.uint32), np.zeros((1, 8), np.int64))
    update(model, AdamW(model, 1e-3), [batch], 1e-3, 1.0, 1)


def _uncounted(config: TrainConfig) -> str:
    """Say that `_total` lacks the validations, where it does."""
    if config.val_fraction and config.eval_batches == 0:
        return "; validations over all held-out data are not counted"
    return ""


def _total(config: TrainConfig, step: float, forward: float) -> float:
    """Add validations to the steps: one before, one every eval_steps, one at the end."""
    validations = 0
    if config.val_fraction:
        validations = 2 + ((config.max_steps - 1) // config.eval_steps if config.eval_steps else 0)
    return config.max_steps * step + validations * config.eval_batches * forward
