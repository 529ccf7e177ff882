"""The model of a command: a preset, and flags for the fields of `GPTConfig` over it."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.choices import completing
from subgpt.cli.origins import in_variable
from subgpt.cli.settings import Setting, default_note, settings_of
from subgpt.model.config import GPTConfig
from subgpt.model.dtype import AUTO
from subgpt.model.presets import MAX_DEPTH, PRESETS
from subgpt.training.config import TrainConfig

if TYPE_CHECKING:
    from subgpt.cli.training import Inputs

DEFAULT_PRESET = "nano"
MODEL_NAMES = tuple(field.name for field in fields(GPTConfig))

_PANEL = "Model (over the preset)"
SHAPE = [
    Setting("n_layer", int, "blocks", None, _PANEL),
    Setting("n_head", int, "attention heads in each block", None, _PANEL),
    Setting(
        "n_kv_head", int, "heads of keys and values, shared by the others; n_head if not given", None, _PANEL
    ),
    Setting("n_embd", int, "width; a multiple of n_head", None, _PANEL),
    Setting("head_dim", int, "width of a head; n_embd / n_head if not given", None, _PANEL),
    Setting("sliding_window", int, "how many tokens attention sees; all if not given", None, _PANEL),
    Setting("block_size", int, "longest text seen at once, in tokens", None, _PANEL),
    Setting("n_inner", int, "width inside the MLP; 4 n_embd if not given, 8/3 if gated", None, _PANEL),
    Setting("dropout", float, "share of values dropped in training", 0.0, _PANEL),
    Setting("mlp", str, "plain or gated", None, _PANEL, values=("plain", "gated")),
    Setting(
        "activation",
        str,
        "gelu (exact), gelu_new (GPT-2's), relu2; silu or gelu if gated",
        None,
        _PANEL,
        values=("gelu", "gelu_new", "relu2", "silu"),
    ),
    Setting("norm", str, "layer_norm or rms_norm", None, _PANEL, values=("layer_norm", "rms_norm")),
    Setting("norm_gain", bool, "a learned factor for each column of a norm", None, _PANEL, can_be_on=True),
    Setting("position", str, "learned or rotary", None, _PANEL, values=("learned", "rotary")),
    Setting(
        "rope_theta", float, "base of the wave lengths of rotary positions; 10000 is usual", None, _PANEL
    ),
    Setting("qk_norm", bool, "norm the queries and keys of each head", None, _PANEL, can_be_on=True),
    Setting("bias", bool, "biases in linear layers and norms", None, _PANEL, can_be_on=True),
    Setting("tie_embeddings", bool, "the output layer is the token embedding", None, _PANEL, can_be_on=True),
]

VOCAB_SIZE = Setting("vocab_size", int, "tokens of the vocabulary; the preset's if not given", None, _PANEL)

# The settings of a run that decide what a step costs, and how many there are.
_COSTS = (
    "max_steps", "batch_size", "gradient_accumulation_steps", "dtype", "gradient_checkpointing", "optimizer",
    "momentum", "max_grad_norm", "eval_steps", "eval_batches", "val_fraction", "seed",
    "lora_r", "target_modules", "use_dora", "quantize_base",
)  # fmt: skip

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completing((*PRESETS, *(f"d{depth}" for depth in range(1, MAX_DEPTH + 1)))),
        help=f"Size of the model: d1 to d{MAX_DEPTH} by depth, or {', '.join(PRESETS)}."
        + default_note(DEFAULT_PRESET),
        show_default=False,
        **in_variable("preset"),
    ),
]


def run_settings(leave_out: Collection[str] = ()) -> list[Setting]:
    """List the flags of the settings that decide what a run costs."""
    return settings_of(TrainConfig, "Training", only=_COSTS, leave_out=leave_out, defaults={"dtype": AUTO})


def model_and_training(
    file: Path | None, preset: str | None, flags: Mapping[str, Any]
) -> tuple[GPTConfig, TrainConfig]:
    """Make both configurations from a file of settings, or a run's own, with `preset` and `flags` over it.

    The window is the model's: as for `pretrain`, block_size is a setting of the model.
    """
    from subgpt.cli.settings import resolve
    from subgpt.cli.training import TRAIN_NAMES, Inputs

    known = [*MODEL_NAMES, *TRAIN_NAMES, "output_dir", "preset", "data", "tokenizer"]
    given = resolve(file, {**flags, "preset": preset}, known, TrainConfig, ("train", "model"))
    inputs = Inputs({"dtype": AUTO, **given})
    training = TrainConfig(**inputs.part(name for name in TRAIN_NAMES if name != "block_size"))
    return model_config(inputs, {}), training


def model_config(inputs: "Inputs", shape: Mapping[str, Any]) -> GPTConfig:
    """Make the configuration of the preset and the fields that `inputs` name; `shape` is what was not named."""
    return GPTConfig.preset(
        inputs.values.get("preset", DEFAULT_PRESET), **{**shape, **inputs.part(MODEL_NAMES)}
    )
