"""`GPTConfig`: everything that fixes a model's shape, checked once, immutable.

Names are nanoGPT's (`n_layer`, `n_head`, `n_embd`, `block_size`, `vocab_size`). The defaults are GPT-2's
block; `norm`, `position`, `qk_norm`, `n_kv_head` and `mlp` turn it into Llama's, Qwen3's or nanochat's.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from subgpt.errors import ConfigError
from subgpt.model.presets import preset_values
from subgpt.spelling import did_you_mean

# Far beyond any model for a CPU; keeps every product of sizes inside 64 bits.
_LIMITS = {"vocab_size": 1 << 24, "block_size": 1 << 20, "n_layer": 1024, "n_head": 1024, "n_embd": 1 << 16}
_NATIVE = (
    "vocab_size", "block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "n_inner", "bias", "dropout", "mlp",
    "activation", "norm", "norm_gain", "norm_eps", "position", "rope_theta", "qk_norm", "tie_embeddings",
)  # fmt: skip
_CHOICES = {
    "norm": ("layer_norm", "rms_norm"),
    "position": ("learned", "rotary"),
    "mlp": ("plain", "gated"),
}
# The activations of each shape of the MLP.
_ACTIVATIONS = {"plain": ("gelu", "gelu_new", "relu2"), "gated": ("silu",)}


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.

    vocab_size: number of tokens. block_size: longest sequence seen at once. n_layer: blocks. n_head:
    attention heads per block. n_embd: width, a multiple of n_head. n_kv_head: heads of keys and values, a
    divisor of n_head that share them among the query heads; n_head if None. head_dim: n_embd / n_head, the
    only one in this version.

    mlp: "plain", down(f(up(x))), or "gated", down(f(gate(x)) up(x)). n_inner: width inside the MLP; if None
    4 n_embd, with "gated" two thirds of that, which are as many parameters, to a multiple of 16. activation:
    f; with "plain" "gelu" (exact), "gelu_new" (GPT-2's tanh) or "relu2" (max(x, 0) squared), with "gated"
    "silu". bias: biases in linear layers and LayerNorms. dropout: in [0, 1). tie_embeddings: the output layer
    is the token embedding.

    norm: "layer_norm" or "rms_norm". norm_gain: a learned factor for each column of a norm; False goes with
    rms_norm. norm_eps: added to the variance. position: "learned", an embedding of each position, or
    "rotary", queries and keys turned by it; rope_theta: the base of its wave lengths. qk_norm: RMS norm of each
    query and key head.

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
    mlp: str = "plain"
    activation: str = "gelu"
    norm: str = "layer_norm"
    norm_gain: bool = True
    norm_eps: float = 1e-5
    position: str = "learned"
    rope_theta: float = 10000.0
    qk_norm: bool = False
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
        for name in ("bias", "norm_gain", "qk_norm", "tie_embeddings"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "is not a truth value", "give True or False")
        self._number("dropout", 0.0, 1.0, "0 is off, 0.1 to 0.2 usual")
        self._number("norm_eps", 0.0, 1.0, "1e-5 is GPT-2's")
        if not self.norm_eps > 0:
            self._refuse("norm_eps", "is not above 0", "1e-5 is GPT-2's")
        self._number("rope_theta", 1.0, 1e12, "10000 is usual")
        self._only("head_dim", (None, self.head_size), "it is n_embd / n_head; leave it out")
        self._fits_together()

    def _fits_together(self) -> None:
        """Check the choices of a block, each by itself and beside the others."""
        for name in ("norm", "position", "mlp"):
            self._choice(name, _CHOICES[name])
        self._choice("activation", _ACTIVATIONS[self.mlp], f" with mlp = {self.mlp!r}")
        if self.n_kv_head is not None:
            self._integer("n_kv_head", self.n_head)
            if self.n_head % self.n_kv_head:
                self._refuse("n_kv_head", f"does not divide n_head = {self.n_head}", "give a divisor of it")
        if self.norm == "layer_norm" and not self.norm_gain:
            self._refuse("norm_gain", "does not go with layer_norm", "set norm to rms_norm")
        if self.position == "rotary" and self.head_size % 2:
            self._refuse(
                "n_head", f"makes heads of {self.head_size}, which rotary turns in pairs", "make it even"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head: n_embd / n_head."""
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values: n_kv_head, or n_head."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def inner_size(self) -> int:
        """Width inside the MLP: n_inner, or what follows from n_embd."""
        if self.n_inner is not None:
            return self.n_inner
        return 4 * self.n_embd if self.mlp == "plain" else max(1, round(self.n_embd / 6)) * 16

    @property
    def block_weights(self) -> int:
        """Number of weights in the matrices of one block."""
        attention = 2 * self.n_embd * (self.n_embd + self.kv_heads * self.head_size)
        return attention + (3 if self.mlp == "gated" else 2) * self.n_embd * self.inner_size

    def num_params(self) -> int:
        """Count the parameters of a model of this shape, without making it.

        >>> GPTConfig.preset("gpt2").num_params()
        124439808
        """
        width, inner, kv = self.n_embd, self.inner_size, self.kv_heads * self.head_size
        block = self.block_weights
        if self.bias:
            block += (width + 2 * kv) + width + (2 if self.mlp == "gated" else 1) * inner + width
        norm = width * (self.norm_gain + (self.bias and self.norm == "layer_norm"))
        heads = 2 * self.head_size if self.qk_norm and self.norm_gain else 0
        tables = self.vocab_size * (1 if self.tie_embeddings else 2)
        tables += self.block_size if self.position == "learned" else 0
        return self.n_layer * (block + 2 * norm + heads) + norm + tables * width

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "GPTConfig":
        """Make the configuration called `name` (see `subgpt.model.presets`) with `changes`.

        `d1` to `d48` are models of so many blocks, everything else following from that.

        >>> GPTConfig.preset("nano", vocab_size=4096).n_embd
        128
        >>> GPTConfig.preset("d6").n_embd
        384
        >>> GPTConfig.preset("nanno")
        Traceback (most recent call last):
        subgpt.errors.ConfigError: GPTConfig: there is no preset 'nanno'; did you mean 'nano'?
        """
        return cls.from_dict({**preset_values(name), **changes})

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
        """Give the content of a Hugging Face `config.json`; see `subgpt.model.hugging_face` for the families."""
        from subgpt.model.hugging_face import to_hf

        return to_hf(self, bos_token_id=bos_token_id, eos_token_id=eos_token_id)

    @classmethod
    def from_hf(cls, values: Mapping[str, Any], place: str = "config.json") -> "GPTConfig":
        """Read the content of a Hugging Face `config.json`; `place` names it in errors."""
        from subgpt.model.hugging_face import from_hf

        return from_hf(values, place)

    def to_native(self) -> str:
        """Write the JSON that `_core.Model` reads."""
        return json.dumps({**{name: getattr(self, name) for name in _NATIVE}, "n_inner": self.inner_size})

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

    def _choice(self, name: str, allowed: tuple[str, ...], where: str = "") -> None:
        value = getattr(self, name)
        if value not in allowed:
            self._refuse(name, f"is not known{where}", did_you_mean(str(value), allowed))

    def _only(self, name: str, allowed: tuple[Any, ...], why: str) -> None:
        value = getattr(self, name)
        if value not in allowed or isinstance(value, bool):
            self._refuse(name, "is not in this version", why)
