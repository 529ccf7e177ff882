"""A model's shape in GGUF's metadata, and back: the keys that llama.cpp reads, for each architecture it calls so.

llama.cpp's code for an architecture fixes what its metadata does not say (which layers have a window, how scores
are scaled). A model that differs from that is refused, since the file would run and say something else.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; llama.cpp's `convert_hf_to_gguf.py`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from subgpt.errors import CheckpointError, ConfigError
from subgpt.model.config import GPTConfig
from subgpt.model.hugging_face.block import layer_count
from subgpt.model.rope_scaling import RopeScaling

Entry: TypeAlias = tuple[str, str, Any]
"""A key, GGUF's type of its value (`u32`, `f32`, `bool`, `str`, `[str]`, …), and the value."""

CONFIG_KEY = "subgpt.config"
"""What our own files say beside it: every field of `GPTConfig`, so that nothing is lost on the way back."""

_NAMES = {
    "gpt2": "gpt2", "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "arcee": "arcee",
    "smollm3": "smollm3",     "gemma2": "gemma2", "gemma3_text": "gemma3",
}  # fmt: skip
KNOWN = tuple(dict.fromkeys(_NAMES.values()))
_GEMMA = ("gemma2", "gemma3")
# Of the blocks of an architecture, every so many: the one without a window, or without rotation.
_PERIODS = {"gemma2": 2, "gemma3": 6, "smollm3": 4}
_GEMMA3_LOCAL_THETA = 10000.0
# What Llama 3.1 to 3.3 have; a file has their factors only.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192.0}


def architecture_of(config: GPTConfig) -> str:
    """Name llama.cpp's architecture for a model.

    Raises ConfigError, with the field and a remedy, where llama.cpp would compute something else.
    """
    kind = config.to_hf()["model_type"]
    if kind not in _NAMES:
        raise ConfigError(
            "export: llama.cpp has no architecture with this block; it knows those of "
            f"{', '.join(_NAMES)}: save() keeps the model for subgpt"
        )
    name = _NAMES[kind]
    for problem in _differences(config, name):
        raise ConfigError(f"export: {problem}; llama.cpp's {name} would compute something else")
    return name


def _differences(config: GPTConfig, name: str) -> Iterator[str]:
    """Say what llama.cpp's code for an architecture does otherwise."""
    period = _PERIODS.get(name, 0)
    last = [(layer + 1) % period == 0 if period else False for layer in range(config.n_layer)]
    slides = [window is not None for window in config.windows]
    if name in _GEMMA:
        if slides != [not full for full in last]:
            yield f"layer_types must be sliding but for every {period}th"
        if config.query_pre_attn_scalar not in (None, config.head_size):
            yield f"query_pre_attn_scalar = {config.query_pre_attn_scalar:g} is not head_dim = {config.head_size}"
        if not config.tie_embeddings:
            yield "tie_embeddings is off"
    elif any(slides) and not (name == "llama" and all(slides)):
        yield f"layer_types has sliding attention, sliding_window = {config.sliding_window}"
    if name == "smollm3" and list(config.rope_layers or ()) != [not bare for bare in last]:
        yield f"rope_layers must be on but for every {period}th"
    if name == "gemma2" and None in (config.attn_softcap, config.logit_softcap):
        yield "attn_softcap and logit_softcap are not both given"
    if name == "gemma3":
        if config.rope_local_theta != _GEMMA3_LOCAL_THETA:
            yield f"rope_local_theta = {config.rope_local_theta:g} is not {_GEMMA3_LOCAL_THETA:g}"
        if config.logit_softcap is not None:
            yield f"logit_softcap = {config.logit_softcap:g} is given"
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "llama3" and name != "llama":
        yield "rope_scaling is of type llama3"
    if name == "gpt2" and config.activation == "relu2":
        yield "activation is relu2"


def metadata(config: GPTConfig, name: str) -> list[Entry]:
    """Give the entries for a model of architecture `name`."""
    sizes = {
        "context_length": config.block_size,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": config.inner_size,
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.kv_heads,
        "vocab_size": config.vocab_size,
    }
    if name == "llama" and config.sliding_window is not None:
        # llama.cpp has no window for Mistral's models: within it they are the same.
        sizes["context_length"] = min(config.block_size, config.sliding_window)
    numbers: dict[str, float] = {}
    if name == "gpt2":
        numbers["attention.layer_norm_epsilon"] = config.norm_eps
    else:
        numbers |= {"attention.layer_norm_rms_epsilon": config.norm_eps, "rope.freq_base": config.rope_theta}
        head = config.head_size
        sizes |= {"rope.dimension_count": head, "attention.key_length": head, "attention.value_length": head}
    if name in _GEMMA:
        sizes["attention.sliding_window"] = config.sliding_window or config.block_size
    if name == "gemma2":
        caps = {
            "attn_logit_softcapping": config.attn_softcap,
            "final_logit_softcapping": config.logit_softcap,
        }
        numbers |= {key: cap for key, cap in caps.items() if cap is not None}
    entries: list[Entry] = [(f"{name}.{key}", "u32", value) for key, value in sizes.items()]
    entries += [(f"{name}.{key}", "f32", float(value)) for key, value in numbers.items()]
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type == "linear":
        entries += [
            (f"{name}.rope.scaling.type", "str", "linear"),
            (f"{name}.rope.scaling.factor", "f32", scaling.factor),
        ]
    return [*entries, (CONFIG_KEY, "str", json.dumps(config.to_dict()))]


def rope_factors(config: GPTConfig) -> list[float] | None:
    """Give by what each wave is stretched (llama.cpp's `rope_freqs`), for scaling of Llama 3's type."""
    scaling = config.rope_scaling
    if scaling is None or scaling.rope_type != "llama3":
        return None
    exponents = np.arange(0, config.head_size, 2) / config.head_size
    inverse = config.rope_theta**-exponents
    low, high = scaling.low_freq_factor or 1.0, scaling.high_freq_factor or 1.0
    times = (scaling.original_max_position_embeddings or 1.0) * inverse / (2 * np.pi)
    short = np.clip((times - low) / (high - low), 0, 1)
    return [float(factor) for factor in 1 / (short + (1 - short) / scaling.factor)]


def read_config(
    values: Mapping[str, Any], vocab_size: int, tied: bool, factors: "np.ndarray[Any, Any] | None", place: str
) -> GPTConfig:
    """Make the configuration that a file's metadata describes.

    vocab_size, tied: what its tensors say. factors: of `rope_freqs`, if there are any.
    Raises CheckpointError, with `place`, for an architecture or a setting that no block here computes.
    """
    name = values.get("general.architecture")
    if name not in KNOWN:
        raise CheckpointError(
            f"{place}: architecture {name!r} is not in this version; known: {', '.join(KNOWN)}"
        )
    try:
        if CONFIG_KEY in values:
            return _own(values[CONFIG_KEY], name)
        fields = _Reader(values, name, place)
        config = GPTConfig(vocab_size=vocab_size, tie_embeddings=tied, **_fields(fields, name, factors))
    except (ConfigError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{place}: {error}") from None
    for problem in _differences(config, name):
        raise CheckpointError(f"{place}: {problem}, which {name} of llama.cpp never has")
    return config


def _own(text: Any, name: str) -> GPTConfig:
    """Read what our own files say, which has to be of the file's architecture; ConfigError, TypeError or ValueError."""
    config = GPTConfig.from_dict(json.loads(text))
    if architecture_of(config) != name:
        raise ConfigError(
            f"{CONFIG_KEY} is of {architecture_of(config)}, the file of {name}; convert the model again"
        )
    return config


class _Reader:
    """Entries of one architecture."""

    def __init__(self, values: Mapping[str, Any], name: str, place: str) -> None:
        self.values, self.name, self.place = values, name, place

    def get(self, key: str, default: Any = None) -> Any:
        value = self.values.get(f"{self.name}.{key}", default)
        if isinstance(value, list):
            raise CheckpointError(
                f"{self.place}: {self.name}.{key} differs from layer to layer, which no block here has"
            )
        return value

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise CheckpointError(f"{self.place}: has no {self.name}.{key}; convert the model again")
        return value


def _fields(entry: _Reader, name: str, factors: "np.ndarray[Any, Any] | None") -> dict[str, Any]:
    heads = entry.need("attention.head_count")
    fields = {
        "block_size": entry.need("context_length"),
        "n_layer": entry.need("block_count"),
        "n_head": heads,
        "n_embd": entry.need("embedding_length"),
        "n_kv_head": entry.get("attention.head_count_kv", heads),
        "n_inner": entry.need("feed_forward_length"),
    }
    if name == "gpt2":
        return {**fields, "activation": "gelu_new", "norm_eps": entry.need("attention.layer_norm_epsilon")}
    fields |= {
        "head_dim": entry.get("attention.key_length", entry.get("rope.dimension_count")),
        "norm_eps": entry.need("attention.layer_norm_rms_epsilon"),
        "rope_theta": entry.get("rope.freq_base", 10000.0),
        "rope_scaling": _scaling(entry, factors),
        "norm": "rms_norm",
        "position": "rotary",
        **_mlp(name),
        "bias": False,
        "qk_norm": name in ("qwen3", "gemma3"),
        "qkv_bias": True if name == "qwen2" else None,
    }
    period, layers = _PERIODS.get(name, 1), fields["n_layer"]
    last = [(layer + 1) % period == 0 for layer in range(layer_count(layers))]
    if name == "smollm3":
        fields["rope_layers"] = [not bare for bare in last]
    if name in _GEMMA:
        fields |= {
            "norm_unit_offset": True,
            "post_norm": True,
            "scale_embeddings": True,
            "sliding_window": entry.need("attention.sliding_window"),
            "layer_types": ["full_attention" if full else "sliding_attention" for full in last],
        }
    if name == "gemma2":
        caps = {"attn_softcap": "attn_logit_softcapping", "logit_softcap": "final_logit_softcapping"}
        fields |= {field: entry.need(key) for field, key in caps.items()}
    if name == "gemma3":
        fields["rope_local_theta"] = _GEMMA3_LOCAL_THETA
    return fields


def _mlp(name: str) -> dict[str, str]:
    if name == "arcee":
        return {"mlp": "plain", "activation": "relu2"}
    return {"mlp": "gated", "activation": "gelu_new" if name in _GEMMA else "silu"}


def _scaling(entry: _Reader, factors: "np.ndarray[Any, Any] | None") -> RopeScaling | None:
    kind = entry.get("rope.scaling.type", "none")
    if factors is not None:
        return _llama3(entry, factors)
    if kind == "none":
        return None
    return RopeScaling.of(
        {"rope_type": kind, "factor": entry.need("rope.scaling.factor")}, f"{entry.name}.rope.scaling"
    )


def _llama3(entry: _Reader, factors: "np.ndarray[Any, Any]") -> RopeScaling:
    """Find Llama 3's scaling behind the factors that a file has of it."""
    scaling = RopeScaling("llama3", float(factors.max(initial=1.0)), **_LLAMA3)
    head = 2 * len(factors)
    config = GPTConfig(
        1, 1, 1, 1, head, head_dim=head, position="rotary", rope_theta=entry.get("rope.freq_base", 10000.0),
        rope_scaling=scaling,
    )  # fmt: skip
    expected = rope_factors(config)
    if expected is None or not np.allclose(expected, factors, rtol=1e-3):
        raise CheckpointError(
            f"{entry.place}: its rope_freqs are not those of Llama 3.1 to 3.3; load the model's Hugging Face files"
        )
    return scaling
