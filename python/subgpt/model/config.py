"""`GPTConfig`: everything that fixes a model's shape, checked once, immutable.

Names are nanoGPT's (`n_layer`, `n_head`, `n_embd`, `block_size`, `vocab_size`). This version has GPT-2's
block: fields that later families need (`n_kv_head`, `norm`, `position`) exist and accept GPT-2's value only.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from subgpt.errors import ConfigError
from subgpt.model.presets import PRESETS
from subgpt.spelling import did_you_mean

# Far beyond any GPT-2; keeps every product of sizes inside 64 bits.
_LIMITS = {"vocab_size": 1 << 24, "block_size": 1 << 20, "n_layer": 1024, "n_head": 1024, "n_embd": 1 << 16}
_NATIVE = (
    "vocab_size", "block_size", "n_layer", "n_head", "n_embd", "n_inner",
    "bias", "dropout", "activation", "norm_eps", "tie_embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.

    vocab_size: number of tokens. block_size: longest sequence seen at once. n_layer: blocks. n_head:
    attention heads per block. n_embd: width, a multiple of n_head. n_inner: width inside the MLP, 4 n_embd if
    None. bias: biases in linear layers and LayerNorms. dropout: in [0, 1). activation: "gelu" (exact) or
    "gelu_new" (GPT-2's tanh). tie_embeddings: the output layer is the token embedding.

    A field that cannot be raises ConfigError with field, value and remedy.

    >>> GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128).head_size
    32
    >>> GPTConfig(65, 64, 4, 3, 128)
    Traceback (most recent call last):
    subgpt.errors.ConfigError: GPTConfig: n_embd = 128 is not a multiple of n_head = 3; 126 or 129 would be
    """

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    _: KW_ONLY
    n_kv_head: int | None = None
    head_dim: int | None = None
    n_inner: int | None = None
    bias: bool = True
    dropout: float = 0.0
    activation: str = "gelu"
    norm: str = "layer_norm"
    norm_eps: float = 1e-5
    position: str = "learned"
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            self._integer(name, limit)
        if self.n_embd % self.n_head:
            below = self.n_embd // self.n_head * self.n_head
            choices = f"{below} or {below + self.n_head}" if below else f"{self.n_head}"
            self._refuse("n_embd", f"is not a multiple of n_head = {self.n_head}", f"{choices} would be")
        if self.n_inner is not None:
            self._integer("n_inner", 1 << 20)
        for name in ("bias", "tie_embeddings"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "is not a truth value", "give True or False")
        self._number("dropout", 0.0, 1.0, "0 is off, 0.1 to 0.2 usual")
        self._number("norm_eps", 0.0, 1.0, "1e-5 is GPT-2's")
        if not self.norm_eps > 0:
            self._refuse("norm_eps", "is not above 0", "1e-5 is GPT-2's")
        self._only("activation", ("gelu", "gelu_new"), "gelu is the exact one, gelu_new GPT-2's tanh")
        self._only("norm", ("layer_norm",), "GPT-2's block has layer_norm")
        self._only("position", ("learned",), "GPT-2's block has learned positions")
        self._only("n_kv_head", (None, self.n_head), "in GPT-2's block it equals n_head; leave it out")
        self._only("head_dim", (None, self.head_size), "in GPT-2's block it is n_embd / n_head; leave it out")

    @property
    def head_size(self) -> int:
        """Width of one attention head: n_embd / n_head."""
        return self.n_embd // self.n_head

    @property
    def inner_size(self) -> int:
        """Width inside the MLP: n_inner, or 4 n_embd."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "GPTConfig":
        """Make the configuration called `name` (see `subgpt.model.presets`) with `changes`.

        >>> GPTConfig.preset("nano", vocab_size=4096).n_embd
        128
        >>> GPTConfig.preset("nanno")
        Traceback (most recent call last):
        subgpt.errors.ConfigError: GPTConfig: there is no preset 'nanno'; did you mean 'nano'?
        """
        if name not in PRESETS:
            raise ConfigError(f"GPTConfig: there is no preset {name!r}; {did_you_mean(str(name), PRESETS)}")
        return cls.from_dict({**PRESETS[name], **changes})

    def to_dict(self) -> dict[str, Any]:
        """Give every field by name, as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GPTConfig":
        """Undo `to_dict`; an unknown or missing field raises ConfigError."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise ConfigError(f"GPTConfig: there is no field {name!r}; {did_you_mean(str(name), fields)}")
        missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values]
        if missing:
            raise ConfigError(f"GPTConfig: {', '.join(missing)} missing; every model needs them")
        return cls(**values)

    def replace(self, **changes: Any) -> "GPTConfig":
        """Make a checked copy with `changes`."""
        return self.from_dict({**self.to_dict(), **changes})

    def to_hf(self, *, bos_token_id: int | None = None, eos_token_id: int | None = None) -> dict[str, Any]:
        """Give the content of a Hugging Face `config.json` for GPT-2."""
        from subgpt.model.hugging_face import to_hf

        return to_hf(self, bos_token_id=bos_token_id, eos_token_id=eos_token_id)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any], place: str = "config.json") -> "GPTConfig":
        """Read the content of a Hugging Face `config.json`; `place` names it in errors."""
        from subgpt.model.hugging_face import from_hf

        return from_hf(values, place)

    def to_native(self) -> str:
        """Write the JSON that `_core.Model` reads."""
        return json.dumps({name: getattr(self, name) for name in _NATIVE})

    def _refuse(self, field: str, problem: str, remedy: str) -> None:
        raise ConfigError(f"GPTConfig: {field} = {getattr(self, field)!r} {problem}; {remedy}")

    def _integer(self, name: str, limit: int) -> None:
        value = getattr(self, name)
        if not hasattr(value, "__index__") or isinstance(value, bool):
            self._refuse(name, "is not an integer", f"give one from 1 to {limit}")
        value = value.__index__()
        if not 1 <= value <= limit:
            self._refuse(name, "is out of range", f"give one from 1 to {limit}")
        object.__setattr__(self, name, value)  # a NumPy integer becomes a plain one, so that JSON can hold it

    def _number(self, name: str, low: float, high: float, remedy: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not hasattr(value, "__float__") or isinstance(value, str):
            self._refuse(name, "is not a number", remedy)
        value = float(value)
        if not (math.isfinite(value) and low <= value < high):
            self._refuse(name, f"is not in [{low:g}, {high:g})", remedy)
        object.__setattr__(self, name, value)

    def _only(self, name: str, allowed: tuple[Any, ...], why: str) -> None:
        value = getattr(self, name)
        if value not in allowed or isinstance(value, bool):
            self._refuse(name, "is not in this version", why)
