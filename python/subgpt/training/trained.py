"""What of a model a run trains: all weights, those that are not frozen, or an adapter over them."""

from collections.abc import Mapping
from typing import Any

from subgpt import _core
from subgpt.adapters.attach import DEFAULT, target_layers
from subgpt.adapters.config import LoraConfig
from subgpt.errors import ConfigError
from subgpt.model.gpt import GPT
from subgpt.model.quantized import refuse_quantized
from subgpt.training.config import TrainConfig

_ADAPTER_RATE = 10
"""Adapters learn best at about ten times the rate of all weights (Schulman et al., "LoRA without regret", 2025)."""


def tuning_defaults(defaults: Mapping[str, Any], config: TrainConfig | None) -> dict[str, Any]:
    """Give the `defaults` of a run for what it trains: the rate of adapters is another."""
    if not isinstance(config, TrainConfig) or config.lora is None:
        return dict(defaults)
    return {**defaults, "learning_rate": _ADAPTER_RATE * defaults["learning_rate"]}


def choose_trained(model: GPT, config: TrainConfig) -> list[str]:
    """Freeze what `config` freezes, or put its adapter over the model, quantized if it says so; says what is trained.

    A model with an adapter of just these settings in use trains it further. Raises ConfigError where another adapter
    lies over the model, and where the weights of a quantized one would have to change.
    """
    quantize_base(model, config)
    if config.lora is None:
        if model.active_adapter is not None:
            raise ConfigError(
                f"the adapter {model.active_adapter!r} is in use, which would stay as it is while the weights under it "
                "change: give lora_r (and its other settings) to train it further, merge it (merge_adapter(), "
                "subgpt merge), or put it away (set_adapter(None))"
            )
        if not config.frozen and model.num_trained() < model.num_params():
            raise ConfigError(
                "some weights of the model are frozen, which the run would not know when it is resumed: give them as "
                "freeze, or unfreeze them with model.freeze([])"
            )
        model.freeze(config.frozen)
    elif model.active_adapter is None:
        if DEFAULT in model.adapters:
            raise ConfigError(
                f"an adapter {DEFAULT!r} lies over the model, not in use; use it with set_adapter({DEFAULT!r}), or "
                f"take it away with delete_adapter({DEFAULT!r})"
            )
        model.add_adapter(config.lora, seed=config.seed)
    else:
        _refuse_other(model, model.adapter_configs[model.active_adapter], config.lora)
    trained, total = model.num_trained(), model.num_params()
    if trained == 0:
        model.freeze([])
        raise ConfigError("freeze leaves nothing to be trained; freeze less")
    if trained == total:
        return []
    base = f" the {model.quantization} base of" if model.quantization else ""
    what = f"rank {config.lora_r} adapters over{base}" if config.lora else "a part of"
    notes = [f"trained are {trained:,} numbers, {what} {total:,} parameters ({trained / total:.2%})"]
    if config.lora and not model.name_or_path:
        notes.append(
            "the model was not loaded from a directory: its adapter will name no base; save the model, and give it the "
            "adapter with load_adapter()"
        )
    return notes


def release(model: GPT, config: TrainConfig) -> None:
    """Let what `config` froze be trained again, which it was before; an adapter stays in use."""
    if config.lora is None:
        model.freeze([])


def quantize_base(model: GPT, config: TrainConfig) -> None:
    """Bring the base to the bits that `config` asks for; one that is quantized already may be left so."""
    if config.lora is None:
        refuse_quantized(
            model,
            "a run without adapters",
            "they cannot be trained; give lora_r (8 or 16 is usual) to train adapters over them, or open the model "
            "without quantize",
        )
    elif config.quantize_base is not None and model.quantization != config.quantize_base:
        # There is no way back from few bits: what cannot be adapted is refused before.
        target_layers(_core.linear_modules(model.native), config.lora.target_modules)
        model.quantize(config.quantize_base, head=False)


def _refuse_other(model: GPT, used: LoraConfig, asked: LoraConfig) -> None:
    """Refuse an adapter in use whose settings are not those that are asked for."""
    modules = _core.linear_modules(model.native)
    same_layers = target_layers(modules, used.target_modules) == target_layers(modules, asked.target_modules)
    for name in ("r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules"):
        one, other = getattr(used, name), getattr(asked, name)
        if one != other and not (name == "target_modules" and same_layers):
            raise ConfigError(
                f"the adapter {model.active_adapter!r} in use has {name} = {one!r}, the run {other!r}; give the same "
                "to train it further, or merge it first"
            )
