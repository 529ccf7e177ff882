"""Going on: whether settings, model, tokenizer and data are those that a checkpoint was made with."""

from typing import TYPE_CHECKING

from subgpt.checkpoint.checkpoints import TrainState
from subgpt.errors import CheckpointError, ConfigError
from subgpt.model.config import GPTConfig
from subgpt.model.dtype import AUTO
from subgpt.training.config import TrainConfig

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT

# What may differ from the run that is resumed: how long, where, by how many processes, how it is watched and kept,
# and what changes no bit of it.
FREE = frozenset({
    "max_steps", "output_dir", "overwrite_output_dir", "save_steps", "save_total_limit", "logging_steps", "report_to",
    "eval_steps", "early_stopping_patience", "load_best_model_at_end",
    "sample_steps", "sample_prompt", "sample_tokens", "gradient_checkpointing",
    "on_spike", "spike_z_score", "max_rollbacks",
    "zero_stage", "gradient_compression", "bucket_megabytes", "peer_timeout",
})  # fmt: skip


def merge_settings(given: TrainConfig, state: TrainState, place: str) -> TrainConfig:
    """Give the settings to go on with: the checkpoint's, and of those `given` the ones that may change.

    A field that was not set has the checkpoint's value; so has one that must not change and is set to None or "auto".
    Raises ConfigError naming the first field that changed and must not.
    """
    saved = TrainConfig(**{"dtype": "float32", **state.settings})  # the one dtype before it was a setting
    changes = {}
    for name in sorted(given.model_fields_set):
        now, then = getattr(given, name), getattr(saved, name)
        if name in FREE:
            changes[name] = now
        elif now not in (None, AUTO) and now != then:
            raise ConfigError(
                f"resume {place}: {name} was {then!r}, is {now!r}; leave it out to go on, or start a new run"
            )
    merged = saved.replace(**changes)
    if merged.max_steps < state.step:
        raise ConfigError(
            f"resume {place}: max_steps = {merged.max_steps}, but the run is at step {state.step}; give more"
        )
    return merged


def check_model(model: "GPT", state: TrainState, place: str) -> None:
    """Raise CheckpointError if the checkpoint's model has another configuration than `model`."""
    now = model.config.to_dict()
    then = GPTConfig.from_dict(state.model).to_dict()  # fields newer than the checkpoint have their defaults
    changed = [f"{name} was {then[name]!r}, is {now[name]!r}" for name in now if then[name] != now[name]]
    if changed:
        raise CheckpointError(
            f"resume {place}: the model is another one: {', '.join(changed)}; give the run's own model"
        )


def check_inputs(state: TrainState, data: str, tokenizer: str, place: str) -> None:
    """Raise CheckpointError if tokenizer or data have another fingerprint than the run began with."""
    if state.tokenizer != tokenizer:
        raise CheckpointError(
            f"resume {place}: the tokenizer is not the one this run began with; give the run's tokenizer.json"
        )
    if state.data != data:
        raise CheckpointError(
            f"resume {place}: the data has changed (fingerprint {data[:8]}, was {state.data[:8]}); "
            "give the files this run began with, or start a new run"
        )
