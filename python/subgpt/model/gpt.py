"""`GPT`: a decoder-only transformer with its weights and gradients, on NumPy arrays.

The weights live in one flat native buffer; this class converts, checks and names. Tensor names are
transformers': with GPT-2's block GPT-2's (``transformer.h.0.attn.c_attn.weight``), linear weights of the
blocks stored (in, out) as GPT-2 stores them; with every other Llama's
(``model.layers.0.self_attn.q_proj.weight``), stored (out, in).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.adapters.attach import (
    DEFAULT,
    adapter_of,
    attach_new,
    attach_saved,
    fingerprint,
    refuse_adapters,
)
from subgpt.adapters.config import LoraConfig
from subgpt.adapters.files import save_adapter
from subgpt.adapters.merge import merge_adapter
from subgpt.errors import ConfigError, DtypeError, InvalidValueError, ShapeError
from subgpt.model.config import GPTConfig
from subgpt.model.dtype import resolve_dtype
from subgpt.model.frozen import frozen_names
from subgpt.model.listener import GradientListener
from subgpt.model.quantized import check_quantization, refuse_quantized
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.tokenizer import Tokenizer

Ids: TypeAlias = npt.NDArray[np.integer[Any]] | Sequence[int] | Sequence[Sequence[int]]
"""Token ids: an array of any integer type or (nested) lists, shape (B, T) or (T,)."""

_TIED_ALIAS = "lm_head.weight"
_FRESH_STD = 0.02  # of embeddings and head in a fresh model
_EMBEDDINGS = ("transformer.wte.weight", "model.embed_tokens.weight")


class GPT:
    """A GPT with fresh weights: normal(0, 0.02), residual projections smaller by sqrt(2 n_layer), as nanoGPT.

    config: the shape. seed: any non-negative integer; the same seed gives the same weights on every machine.
    dtype: how matrix products are computed: "float32"; "bfloat16", factors rounded to bfloat16 and sums kept
    in float32, up to twice as fast where the processor is made for it; "auto", bfloat16 there and
    float32 elsewhere. Weights, gradients, norms, softmax, the residual stream and the optimizer's moments are
    float32 either way, and so is generation, but for rows, keys and values beside weights in few bits, which are
    bfloat16. `generation_config` has the options of `GenerationConfig` that the
    model's files set (how to sample, which ids end a text); it counts where a caller says nothing. `chat_template` is
    how conversations are written for it: what its files have, or what it was last fine-tuned with; None for none.
    `name_or_path` is where `load` found the model.

    >>> model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=8), seed=1)
    >>> model.forward([[1, 2, 3]]).shape
    (1, 3, 11)
    >>> round(float(model.next_token_probs([1, 2]).sum()), 5)
    1.0
    """

    def __init__(self, config: GPTConfig, *, seed: int, dtype: str = "float32") -> None:
        self._begin(config, _seed(seed), dtype)

    @classmethod
    def blank(cls, config: GPTConfig, *, dtype: str = "float32") -> "GPT":
        """Make a model of zeros, to be filled: nothing is drawn, and no memory is taken before it is written.

        >>> GPT.blank(GPTConfig(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=4)).forward([1]).tolist()
        [[0.0, 0.0, 0.0, 0.0, 0.0]]

        """
        model = cls.__new__(cls)
        model._begin(config, None, dtype)
        return model

    def _begin(self, config: GPTConfig, seed: int | None, dtype: str) -> None:
        if not isinstance(config, GPTConfig):
            raise ConfigError(f"GPT: config is {type(config).__name__}; give a GPTConfig")
        self.config = config
        self.generation_config: dict[str, Any] = {}
        self.chat_template: ChatTemplate | None = None
        self.name_or_path = ""
        self.adapter_configs: dict[str, LoraConfig] = {}
        self.float32_fingerprint: str | None = None  # of the weights before they were quantized
        self.native = _core.Model(config.to_native(), seed, resolve_dtype(dtype))

    @property
    def dtype(self) -> str:
        """How matrix products are computed, "float32" or "bfloat16".

        A change keeps weights and gradients; "auto" is taken too.
        """
        return self.native.dtype

    @dtype.setter
    def dtype(self, dtype: str) -> None:
        self.native.set_dtype(resolve_dtype(dtype))

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether `backward` keeps one input a block and computes the rest again.

        It takes less memory and some more time (1.14 x where it was measured), and gives the same bits.
        """
        return self.native.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, on: bool) -> None:
        if not isinstance(on, bool):
            raise ConfigError(
                f"GPT: gradient_checkpointing = {on!r} is not a truth value; give True or False"
            )
        self.native.set_gradient_checkpointing(on)

    def forward(self, ids: Ids, *, documents: Ids | None = None) -> npt.NDArray[np.float32]:
        """Give the logits, float32: (B, T, vocab_size) for ids (B, T), (T, vocab_size) for ids (T,).

        T is at most block_size. documents: where rows hold several texts, the number of each token's text in its
        row, of the shape of `ids`. Numbers rise along a row; -1 is a token of no text. Tokens see those of their own
        text only and positions begin anew with each, so that all comes out as if every text had a row to itself.

        >>> model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=8), seed=1)
        >>> packed = model.forward([1, 2, 3, 4, 5], documents=[0, 0, 1, 1, 1])
        >>> bool(np.allclose(packed[2:], model.forward([3, 4, 5]), atol=1e-6))
        True

        """
        return self.native.forward(ids, documents)

    def loss(
        self, ids: Ids, targets: Ids, *, ignore_index: int = -100, documents: Ids | None = None
    ) -> float:
        """Give the mean cross-entropy in nats over the targets that are not `ignore_index`; no dropout.

        ids, targets: (B, T) or (T,). `targets[b, t]` is the token after `ids[b, t]`. documents: see `forward`.
        """
        return self.native.loss(ids, targets, ignore_index, documents)

    def token_losses(
        self, ids: Ids, targets: Ids, *, ignore_index: int = -100, documents: Ids | None = None
    ) -> npt.NDArray[np.float32]:
        """Give the cross-entropy of every position in nats, 0 where its target is `ignore_index`; no dropout.

        Shapes and documents are as in `loss`; the result has the shape of `ids`.
        """
        return self.native.token_losses(ids, targets, ignore_index, documents)

    def backward(
        self,
        ids: Ids,
        targets: Ids,
        *,
        ignore_index: int = -100,
        scale: float = 1.0,
        documents: Ids | None = None,
        listener: GradientListener | None = None,
    ) -> float:
        """Give the loss, with dropout if there is any; add scale x its gradient to the gradient buffer.

        documents: see `forward`. listener: hears of gradients while the pass goes on.
        """
        if listener is None:
            return self.native.backward(ids, targets, ignore_index, scale, documents)
        buckets, tell = listener
        return _core.backward_in_buckets(
            self.native, ids, targets, ignore_index, scale, documents, buckets, tell
        )

    def grads(self) -> dict[str, npt.NDArray[np.float32]]:
        """Copy the gradients of what is trained, by tensor name.

        It is all weights, where none are frozen and no adapter is in use.
        """
        return {name: self.native.tensor(name, "grad") for name in _core.trained_names(self.native)}

    def zero_grad(self) -> None:
        """Set the gradient buffer to zero."""
        self.native.zero_grad()

    def clip_grad_norm(self, max_norm: float) -> float:
        """Scale all gradients so that their joint L2 norm is at most `max_norm`; returns the norm before."""
        return self.native.clip_grad_norm(max_norm)

    def grad_norm(self) -> float:
        """Give the joint L2 norm of all gradients."""
        return self.native.grad_norm()

    def state_dict(self) -> dict[str, npt.NDArray[np.float32]]:
        """Copy the weights, by tensor name; tied weights once, under the embedding's name.

        Of a quantized model they are the numbers that it computes with.
        """
        return {name: self.native.tensor(name, "param") for name in self.native.tensor_names()}

    def load_state_dict(self, tensors: Mapping[str, npt.ArrayLike]) -> None:
        """Take the weights from `tensors`; all or nothing.

        A name too few, too many or of another shape raises ShapeError that lists each, with the nearest known
        name. With tied embeddings a ``lm_head.weight`` equal to the token embedding is accepted. ConfigError for a
        quantized model.
        """
        refuse_quantized(self, "load_state_dict", "give them to the float32 model, then quantize it")
        shapes = {name: tuple(shape) for name, shape in self.native.tensor_shapes()}
        names = list(shapes)
        arrays = {name: _float32(name, value) for name, value in tensors.items()}
        embedding = next(name for name in _EMBEDDINGS if name in names)
        if _TIED_ALIAS in arrays and _TIED_ALIAS not in names and embedding in arrays:
            if not np.array_equal(arrays[_TIED_ALIAS], arrays[embedding]):
                raise ShapeError(
                    f"load_state_dict: {_TIED_ALIAS} differs from {embedding}, but this model ties them; "
                    "make the model with tie_embeddings=False"
                )
            del arrays[_TIED_ALIAS]
        problems = [f"{name} is missing" for name in names if name not in arrays]
        for name, value in arrays.items():
            if name not in names:
                problems.append(f"{name} is not in this model ({did_you_mean(name, names)})")
            elif value.shape != (shape := shapes[name]):
                problems.append(f"{name} has shape {value.shape}, expected {shape}")
        if problems:
            more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
            raise ShapeError(f"load_state_dict: {'; '.join(problems[:8])}{more}")
        for name, value in arrays.items():
            self.native.set_tensor(name, value)

    def resize_embeddings(self, vocab_size: int) -> None:
        """Make room for a larger vocabulary; gradients are dropped, and optimizers made before are of no use any more.

        New rows of the token embedding, and of the output layer, are drawn around the mean of those that are there, as
        far from it as they are, and always the same: a new token is one among the others. At the mean itself (Hewitt,
        "Initializing new word embeddings for pretrained language models", 2021) it could never be the likeliest one,
        and an adapter, under which embeddings stay, could not teach a model to write it.
        What is frozen stays frozen.
        vocab_size: not below the present one. ConfigError for a model that is quantized or has adapters.
        """
        if vocab_size == self.config.vocab_size:
            return
        if vocab_size < self.config.vocab_size:
            raise InvalidValueError(
                f"GPT.resize_embeddings: vocab_size = {vocab_size} is below the present {self.config.vocab_size}; "
                "tokens cannot be taken away"
            )
        refuse_adapters(self, "GPT.resize_embeddings")
        refuse_quantized(self, "GPT.resize_embeddings", "resize the float32 model, then quantize it")
        config = self.config.replace(vocab_size=vocab_size)
        native = _core.Model(config.to_native(), 0, self.dtype)
        native.set_gradient_checkpointing(self.gradient_checkpointing)
        native.dropout_state = self.native.dropout_state
        for name in native.tensor_names():
            value = self.native.tensor(name, "param")
            if name in (*_EMBEDDINGS, _TIED_ALIAS):
                drawn = native.tensor(name, "param")[len(value) :] / _FRESH_STD
                new = value.mean(0, dtype=np.float64) + drawn * value.std(0, dtype=np.float64)
                value = np.concatenate([value, new.astype(np.float32)])
            native.set_tensor(name, value)
        _core.train_only(native, set(_core.trained_names(self.native)))
        self.config, self.native = config, native

    def freeze(self, patterns: str | Sequence[str]) -> None:
        """Train the rest only: weights that a pattern means stay as they are, and cost no gradients and no moments.

        patterns: one or several, see `frozen_names`; none: everything is trained. Gradients are dropped, and optimizers
        made before are of no use any more.

        >>> model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8), seed=1)
        >>> model.freeze(["embeddings", "0"])
        >>> sorted(model.grads())[:2]
        ['transformer.h.1.attn.c_attn.bias', 'transformer.h.1.attn.c_attn.weight']
        """
        frozen = frozen_names(self.native.tensor_names(), patterns)
        _core.train_only(self.native, {name for name in self.native.tensor_names() if name not in frozen})

    @property
    def quantization(self) -> str | None:
        """How the weights of linear layers are kept: "bfloat16", "int8", "int4", or None for float32."""
        return self.native.quantization

    def quantize(self, kind: str, *, head: bool = True) -> None:
        """Keep the weights of linear layers in few bits from now on; there is no way back.

        kind: "bfloat16" takes half of the memory, "int8" about a quarter, "int4" a seventh, and loses most; text is
        written faster by as much. head: the output projection too, with the token embeddings if it shares them; a base
        of adapters (QLoRA) is better without, and its losses are computed as if its weights were float32 numbers.
        Adapters stay and can be trained over them, these weights cannot; what needs them as float32 numbers (saving,
        merging) is refused. Gradients are dropped.

        >>> model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=8), seed=1)
        >>> model.quantize("int8")
        >>> model.quantization
        'int8'
        """
        check_quantization(kind, "GPT.quantize")
        refuse_quantized(self, "GPT.quantize", "open the float32 model again to quantize it otherwise")
        before = fingerprint(self)
        self.native.quantize(kind, head)
        self.float32_fingerprint = before

    def num_trained(self) -> int:
        """Count what is trained: the weights that are not frozen, or the numbers of the adapter in use."""
        return _core.num_trained(self.native)

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters over this model."""
        return list(self.adapter_configs)

    @property
    def active_adapter(self) -> str | None:
        """The name of the adapter in use: it changes what the model computes, and is all that is trained."""
        return _core.active_adapter(self.native)

    def add_adapter(self, config: "LoraConfig", name: str = DEFAULT, *, seed: int = 0) -> None:
        """Put a new adapter over the weights, which changes nothing yet, and use it."""
        attach_new(self, config, name, seed=seed)

    def load_adapter(self, path: str | Path, name: str = DEFAULT, *, check_base: bool = True) -> None:
        """Put the adapter of a directory (PEFT's layout) over the weights, and use it.

        Raises CheckpointError for one of another model; check_base=False takes one that was trained over other weights
        of the same shape.
        """
        attach_saved(self, path, name, check_base=check_base)

    def save_adapter(self, path: str | Path, name: str = DEFAULT) -> None:
        """Write an adapter as PEFT does: `adapter_config.json` and `adapter_model.safetensors`.

        Raises OutputError for a directory that holds a model.
        """
        save_adapter(adapter_of(self, name), path, base=fingerprint(self))

    def set_adapter(self, name: str | None) -> None:
        """Use another adapter, or none: the model is the bare one again."""
        _core.set_adapter(self.native, name)

    def delete_adapter(self, name: str = DEFAULT) -> None:
        """Take an adapter away."""
        _core.delete_adapter(self.native, name)
        self.adapter_configs.pop(name, None)

    def merge_adapter(self, name: str = DEFAULT) -> None:
        """Make an adapter a part of the weights, and take it away; ConfigError for a quantized model."""
        refuse_quantized(
            self,
            "GPT.merge_adapter",
            "save the adapter (save_adapter()) and merge it into the float32 base: load it, or subgpt merge",
        )
        merge_adapter(self, adapter_of(self, name))
        self.delete_adapter(name)

    def num_params(self, non_embedding: bool = False) -> int:
        """Count the parameters; `non_embedding` leaves a table of positions out, as nanoGPT does."""
        return self.native.num_params(non_embedding)

    def next_token_probs(self, ids: Ids) -> npt.NDArray[np.float32]:
        """Give the probabilities of the token after `ids` (n,): float32 (vocab_size,), each in [0, 1], sum 1.

        The sum is within 1e-5. Past block_size, the last block_size ids count.
        """
        return self.native.next_token_probs(ids)

    def hidden_states(self, ids: Ids) -> npt.NDArray[np.float32]:
        """Give the residual stream before each block and after the last, float32 (n_layer + 1, T, n_embd).

        ids: (T,), or (B, T), whose shape then stands in place of T. The last state is not yet normed, unlike the
        last of transformers' hidden states.
        """
        return _core.hidden_states(self.native, ids)

    @overload
    def logit_lens(self, ids: Ids) -> npt.NDArray[np.float32]: ...
    @overload
    def logit_lens(self, ids: Ids, *, k: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]: ...
    def logit_lens(
        self, ids: Ids, *, k: int | None = None
    ) -> npt.NDArray[np.float32] | tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32]]:
        """Give what each state of the residual stream would predict, through the last norm and the head.

        ids: as in `hidden_states`. Without `k` logits, float32 (n_layer + 1, T, vocab_size), whose last are those of
        `forward`, bit for bit. With `k` the ids, uint32, and the probabilities, float32, of the k most probable
        tokens, (n_layer + 1, T, k) each, which takes no more memory than that. After nostalgebraist, "interpreting
        GPT: the logit lens" (2020).

        >>> model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=8), seed=1)
        >>> [tops.shape for tops in model.logit_lens([1, 2, 3], k=5)]
        [(3, 3, 5), (3, 3, 5)]
        """
        if k is None:
            return _core.logit_lens(self.native, ids)
        if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= self.config.vocab_size:
            most = self.config.vocab_size
            raise InvalidValueError(
                f"GPT.logit_lens: k is {k!r}; give an integer from 1 to vocab_size = {most}"
            )
        return _core.logit_lens_top(self.native, ids, k)

    def attention_maps(self, ids: Ids) -> npt.NDArray[np.float32]:
        """Give where each position looks, float32 (n_layer, n_head, T, T): `maps[l, h, i, j]` is how much of j i takes.

        Rows add up to 1 and are 0 at what a position does not see: what comes after it, and what lies before its
        window where a block has one. ids: (T,), or (B, T), for (n_layer, B, n_head, T, T). They are computed for
        looking at, T x T numbers a head; `forward` never has them in memory.
        """
        return _core.attention_maps(self.native, ids)

    def generate(self, ids: Ids, **options: Any) -> npt.NDArray[np.uint32]:
        """Give `ids` (n,) and what the model appends, uint32; options are those of `GenerationConfig`.

        `eos_token_id` (an id or several) ends the text and is not part of it. Stop strings, bad words and
        grammars need a tokenizer: use `subgpt.generate` for them.
        """
        from subgpt.generation.beams import beam_search
        from subgpt.generation.speculation import speculate
        from subgpt.generation.stream import merge_options, refuse_several

        settings = merge_options(self, None, options)
        refuse_several(settings, "GPT.generate")
        texts = [name for name in ("stop", "bad_words") if getattr(settings, name)]
        if name := settings.structure or next(iter(texts), None):
            raise ConfigError(
                f"GPT.generate: {name} strings need a tokenizer; call subgpt.generate(model, tok, …)"
            )
        session = self.native.session()
        session.append(ids)
        if settings.num_beams == 1:
            speculate(session, settings, None)
            session.run(settings.max_new_tokens, settings.to_native(), settings.eos_ids)
            return session.ids
        before, native = session.ids, settings.to_native()
        best = beam_search(session, settings, native, settings.eos_ids, lambda _: False)[0]
        return np.concatenate([before, np.array(best.ids, dtype=np.uint32)])

    def save(self, path: str | Path, tokenizer: "Tokenizer | None" = None) -> None:
        """Write a Hugging Face directory that transformers and `subgpt.load` open.

        A chat template that is there goes if the model has none; a tokenizer that is there stays if none is given, and
        `load` opens it with the model. Adapters are not part of it: see `save_adapter` and `merge_adapter`. ConfigError
        if there are some, or the model is quantized; OutputError for a directory that holds an adapter.
        """
        from subgpt.checkpoint.run_directory import save_model

        save_model(self, path, tokenizer)

    def __repr__(self) -> str:
        c = self.config
        return (
            f"GPT({self.num_params():,} parameters: {c.n_layer} layers, {c.n_head} heads, {c.n_embd} wide, "
            f"vocabulary {c.vocab_size}, block {c.block_size})"
        )


def _float32(name: str, value: npt.ArrayLike) -> npt.NDArray[np.float32]:
    try:
        return np.ascontiguousarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DtypeError(f"load_state_dict: {name} is no array of numbers: {error}") from None


def _seed(seed: int) -> int:
    """Keep `seed` below 2**64, and take a 64-bit hash of a larger one."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise InvalidValueError(f"GPT: seed is {seed!r}; give an integer of 0 or more")
    seed = seed.__index__()
    if seed < 0:
        raise InvalidValueError(f"GPT: seed is {seed}; give an integer of 0 or more")
    if seed < 1 << 64:
        return seed
    data = seed.to_bytes((seed.bit_length() + 7) // 8, "little")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
