"""The model of a command: a preset, and flags for the fields of `GPTConfig` over it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.settings import Setting, default_note
from subgpt.model.config import GPTConfig
from subgpt.model.presets import MAX_DEPTH, PRESETS

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
    Setting("block_size", int, "longest text seen at once, in tokens", None, _PANEL),
    Setting("n_inner", int, "width inside the MLP; 4 n_embd if not given, 8/3 if gated", None, _PANEL),
    Setting("dropout", float, "share of values dropped in training", 0.0, _PANEL),
    Setting("mlp", str, "plain or gated", None, _PANEL),
    Setting("activation", str, "gelu (exact), gelu_new (GPT-2's), relu2; silu if gated", None, _PANEL),
    Setting("norm", str, "layer_norm or rms_norm", None, _PANEL),
    Setting("norm_gain", bool, "a learned factor for each column of a norm", True, _PANEL),
    Setting("position", str, "learned or rotary", None, _PANEL),
    Setting("rope_theta", float, "base of the wave lengths of rotary positions", 10000.0, _PANEL),
    Setting("qk_norm", bool, "norm the queries and keys of each head", None, _PANEL),
    Setting("bias", bool, "biases in linear layers and norms", True, _PANEL),
    Setting("tie_embeddings", bool, "the output layer is the token embedding", True, _PANEL),
]

Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Size of the model: d1 to d{MAX_DEPTH} by depth, or {', '.join(PRESETS)}."
        + default_note(DEFAULT_PRESET),
        show_default=False,
    ),
]


def model_config(inputs: "Inputs", shape: Mapping[str, Any]) -> GPTConfig:
    """Make the configuration of the preset and the fields that `inputs` name; `shape` is what was not named."""
    return GPTConfig.preset(
        inputs.values.get("preset", DEFAULT_PRESET), **{**shape, **inputs.part(MODEL_NAMES)}
    )
