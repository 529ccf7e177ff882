"""`GPTConfig`: everything that fixes a model's shape, checked once, immutable.

Names are nanoGPT's (`n_layer`, `n_head`, `n_embd`, `block_size`, `vocab_size`), and Hugging Face's where
nanoGPT has none. The defaults are GPT-2's block; other fields turn it into Llama's, Mistral's, Qwen's,
Arcee's, SmolLM's, Gemma's or nanochat's.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from subgpt.errors import ConfigError
from subgpt.model import checks
from subgpt.model.presets import preset_values
from subgpt.model.rope_scaling import RopeScaling
from subgpt.spelling import did_you_mean

LAYER_TYPES = ("full_attention", "sliding_attention")
"""What the attention of a block may see: all tokens before, or the last `sliding_window`."""

_CHOICES = {
    "norm": ("layer_norm", "rms_norm"),
    "position": ("learned", "rotary"),
    "mlp": ("plain", "gated"),
}
# The activations of each shape of the MLP.
_ACTIVATIONS = {"plain": ("gelu", "gelu_new", "relu2"), "gated": ("silu", "gelu", "gelu_new")}
_TRUTHS = (
    "bias", "norm_gain", "norm_unit_offset", "post_norm", "qk_norm", "scale_embeddings", "tie_embeddings",
)  # fmt: skip


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT.

    vocab_size: number of tokens. block_size: longest sequence seen at once. n_layer: blocks. n_head:
    attention heads per block. n_embd: width, a multiple of n_head unless head_dim is given. n_kv_head: heads
    of keys and values, a divisor of n_head that share them among the query heads; n_head if None. head_dim:
    width of a head; n_embd / n_head if None.

    mlp: "plain", down(f(up(x))), or "gated", down(f(gate(x)) up(x)). n_inner: width inside the MLP; if None
    4 n_embd, with "gated" two thirds of that, which are as many parameters, to a multiple of 16. activation:
    f; "gelu" (exact), "gelu_new" (GPT-2's tanh), with "plain" also "relu2" (max(x, 0) squared), with "gated"
    "silu". bias: biases in linear layers and LayerNorms; qkv_bias: those of the projections of queries, keys
    and values, as `bias` if None. dropout: in [0, 1). tie_embeddings: the output layer is the token
    embedding. scale_embeddings: token embeddings are multiplied by the root of n_embd.

    norm: "layer_norm" or "rms_norm". norm_gain: a learned factor for each column of a norm; False goes with
    rms_norm. norm_unit_offset: factors are stored as differences to 1, with rms_norm. norm_eps: added to the
    variance. post_norm: what attention and MLP add to the stream is normalised first.

    position: "learned", an embedding of each position, or "rotary", queries and keys turned by it;
    rope_theta: the base of its wave lengths; rope_scaling: how they are stretched; rope_local_theta: the base
    in blocks with a sliding window, which are then not stretched; rope_layers: for each block whether it
    turns at all. qk_norm: RMS norm of each query and key head.

    sliding_window: how many tokens a block of sliding attention sees, its own included. layer_types:
    "sliding_attention" or "full_attention" for each block; if None, every block slides where `sliding_window` is
    given, and none otherwise.
    query_pre_attn_scalar: scores are divided by its root; head_dim if None. attn_softcap, logit_softcap:
    bounds of scores and of logits.

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
    qkv_bias: bool | None = None
    dropout: float = 0.0
    mlp: str = "plain"
    activation: str = "gelu"
    norm: str = "layer_norm"
    norm_gain: bool = True
    norm_unit_offset: bool = False
    norm_eps: float = 1e-5
    post_norm: bool = False
    position: str = "learned"
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    rope_local_theta: float | None = None
    rope_layers: tuple[bool, ...] | None = None
    qk_norm: bool = False
    query_pre_attn_scalar: float | None = None
    attn_softcap: float | None = None
    logit_softcap: float | None = None
    sliding_window: int | None = None
    layer_types: tuple[str, ...] | None = None
    scale_embeddings: bool = False
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        for name, limit in checks.LIMITS.items():
            checks.integer(self, name, limit)
        if self.head_dim is not None:
            checks.integer(self, "head_dim", 1 << 12)
        elif self.n_embd % self.n_head:
            below = self.n_embd // self.n_head * self.n_head
            choices = f"{below} or {below + self.n_head}" if below else f"{self.n_head}"
            checks.refuse(
                self, "n_embd", f"is not a multiple of n_head = {self.n_head}", f"{choices} would be"
            )
        if self.n_inner is not None:
            checks.integer(self, "n_inner", 1 << 20)
        for name in (*_TRUTHS, *(("qkv_bias",) if self.qkv_bias is not None else ())):
            checks.truth(self, name)
        checks.number(self, "dropout", 0.0, 1.0, "0 is off, 0.1 to 0.2 usual")
        checks.positive(self, "norm_eps", 1.0, "1e-5 is GPT-2's")
        for name, usual in (
            ("query_pre_attn_scalar", "head_dim"),
            ("attn_softcap", "50"),
            ("logit_softcap", "30"),
        ):
            if getattr(self, name) is not None:
                checks.positive(self, name, 1e6, f"{usual} is usual, or None")
        self._check_positions()
        self._check_layers()
        self._fits_together()

    def _check_positions(self) -> None:
        checks.number(self, "rope_theta", 1.0, 1e12, "10000 is usual")
        if self.rope_local_theta is not None:
            checks.number(self, "rope_local_theta", 1.0, 1e12, "10000 is usual")
        object.__setattr__(self, "rope_scaling", RopeScaling.of(self.rope_scaling, "GPTConfig: rope_scaling"))
        if self.position == "rotary" and self.head_size % 2:
            checks.refuse(
                self,
                "n_head",
                f"makes heads of {self.head_size}, which rotary turns in pairs",
                "make it even",
            )

    def _check_layers(self) -> None:
        """Check what is given for each block."""
        if self.sliding_window is not None:
            checks.integer(self, "sliding_window", 1 << 20)
        checks.for_each_layer(self, "layer_types", LAYER_TYPES)
        checks.for_each_layer(self, "rope_layers", (True, False))
        if self.layer_types and "sliding_attention" in self.layer_types and self.sliding_window is None:
            checks.refuse(self, "layer_types", "has sliding attention without a window", "set sliding_window")

    def _fits_together(self) -> None:
        """Check the choices of a block, each by itself and beside the others."""
        for name in ("norm", "position", "mlp"):
            checks.choice(self, name, _CHOICES[name])
        checks.choice(self, "activation", _ACTIVATIONS[self.mlp], f" with mlp = {self.mlp!r}")
        if self.n_kv_head is not None:
            checks.integer(self, "n_kv_head", self.n_head)
            if self.n_head % self.n_kv_head:
                checks.refuse(
                    self, "n_kv_head", f"does not divide n_head = {self.n_head}", "give a divisor of it"
                )
        if self.norm == "layer_norm":
            for name, only in (("norm_gain", True), ("norm_unit_offset", False)):
                if getattr(self, name) is not only:
                    checks.refuse(self, name, "does not go with layer_norm", "set norm to rms_norm")

    @property
    def head_size(self) -> int:
        """Width of one attention head: head_dim, or n_embd / n_head."""
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values: n_kv_head, or n_head."""
        return self.n_head if self.n_kv_head is None else self.n_kv_head

    @property
    def is_gpt2(self) -> bool:
        """Whether this is GPT-2's block, whose tensors have GPT-2's names and orientation."""
        plain = not (self.qk_norm or self.post_norm) and self.norm_gain
        block = (self.norm, self.position, self.mlp) == ("layer_norm", "learned", "plain")
        heads = self.kv_heads == self.n_head and self.head_size * self.n_head == self.n_embd
        return block and plain and heads and self.has_qkv_bias == self.bias

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the projections of queries, keys and values have biases."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @property
    def windows(self) -> tuple[int | None, ...]:
        """How many tokens each block sees; None for all."""
        types = self.layer_types or ("sliding_attention",) * self.n_layer
        return tuple(self.sliding_window if kind == "sliding_attention" else None for kind in types)

    @property
    def inner_size(self) -> int:
        """Width inside the MLP: n_inner, or what follows from n_embd."""
        if self.n_inner is not None:
            return self.n_inner
        return 4 * self.n_embd if self.mlp == "plain" else max(1, round(self.n_embd / 6)) * 16

    @property
    def block_weights(self) -> int:
        """Number of weights in the matrices of one block."""
        attention = 2 * self.n_embd * (self.n_head + self.kv_heads) * self.head_size
        return attention + (3 if self.mlp == "gated" else 2) * self.n_embd * self.inner_size

    def num_params(self) -> int:
        """Count the parameters of a model of this shape, without making it.

        >>> GPTConfig.preset("gpt2").num_params()
        124439808
        """
        width, inner = self.n_embd, self.inner_size
        block = self.block_weights
        if self.has_qkv_bias:
            block += (self.n_head + 2 * self.kv_heads) * self.head_size
        if self.bias:
            block += width + (2 if self.mlp == "gated" else 1) * inner + width
        norm = width * (self.norm_gain + (self.bias and self.norm == "layer_norm"))
        heads = 2 * self.head_size if self.qk_norm and self.norm_gain else 0
        tables = self.vocab_size * (1 if self.tie_embeddings else 2)
        tables += self.block_size if self.position == "learned" else 0
        norms = 4 if self.post_norm else 2
        return self.n_layer * (block + norms * norm + heads) + norm + tables * width

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
        scaling = None if self.rope_scaling is None else self.rope_scaling.to_dict()
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {name: list(value) for name, value in fields.items() if isinstance(value, tuple)}
        return {**fields, **lists, "rope_scaling": scaling}

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
        return json.dumps({**self.to_dict(), "n_inner": self.inner_size})
