"""llama2.c's checkpoints: `model.bin` files of a small Llama, without any names in them.

Three versions are read (llama2.c's `export.py`): the first, without a magic number; 1, float32 with one; and 2,
int8 in groups with a scale each. Linear weights are those of Meta's Llama, whose heads are rotated in neighbouring
pairs; here as in transformers a pair is half a head apart, so that rows of query and key projections change places.

A file says nothing about its vocabulary; llama2.c's own tools name it `tokenizer.bin`, or `tok512.bin` for one of
512 entries.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.errors import CheckpointError, ConfigError
from subgpt.model.config import GPTConfig
from subgpt.model.gpt import GPT

BOS = 1
"""Every text begins with it, and the next one's beginning is the end of a text."""

_MAGIC = b"24ka"  # 0x616b3432
_HEADER = 256  # bytes before the weights, from version 1 on
_RMS_EPS, _ROPE_THETA = 1e-5, 10000.0


class _Header(NamedTuple):
    version: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    max_seq_len: int
    shared: bool
    group_size: int
    start: int


def load_llama2c(path: Path, *, dtype: str = "float32") -> GPT:
    """Open a checkpoint of llama2.c.

    Raises CheckpointError where the numbers in front of the file do not belong to a file of its size.
    """
    try:
        data = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); give a llama2.c checkpoint") from None
    header = _header(data[:_HEADER].tobytes(), path)
    config = _config(header, path)
    for name, size in _sizes(header):
        if "norm" not in name and size % header.group_size:
            raise CheckpointError(
                f"{path}: groups of {header.group_size} numbers do not divide the {size:,} of {name}; fetch the "
                "file again"
            )
    expected = header.start + sum(map(_bytes_of(header), _sizes(header)))
    if len(data) != expected:
        raise CheckpointError(
            f"{path}: {len(data):,} bytes, but a llama2.c checkpoint of {header.n_layers} layers, width "
            f"{header.dim} and {header.vocab_size} tokens has {expected:,}; fetch the file again, or if it "
            "is one of PyTorch's convert it with transformers' save_pretrained"
        )
    model = GPT.blank(config, dtype=dtype)
    model.load_state_dict(dict(_tensors(header, data)))
    model.generation_config = {"eos_token_id": [BOS]}
    return model


def outline_llama2c(path: Path) -> GPTConfig:
    """Read the configuration of a checkpoint, and no weights."""
    with path.open("rb") as file:
        return _config(_header(file.read(_HEADER), path), path)


def find_tokenizer(path: Path, config: GPTConfig) -> Path | None:
    """Find the tokenizer beside a checkpoint, under one of llama2.c's names."""
    names = ("tokenizer.bin", f"tok{config.vocab_size}.bin")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _header(head: bytes, path: Path) -> _Header:
    if head.startswith(_MAGIC):
        if len(head) < _HEADER:
            raise CheckpointError(
                f"{path}: {len(head)} bytes are too few for a llama2.c header; fetch it again"
            )
        version, *sizes = struct.unpack("<8i", head[4:36])
        shared, group = head[36], struct.unpack("<i", head[37:41])[0]
        if version not in (1, 2) or shared not in (0, 1) or (version == 2 and group < 1):
            raise CheckpointError(
                f"{path}: llama2.c's version {version} with flag {shared} and groups of {group} is not known; "
                "versions 0, 1 and 2 are"
            )
        return _Header._make((version, *sizes, bool(shared), group if version == 2 else 1, _HEADER))
    if len(head) < 28:
        raise CheckpointError(
            f"{path}: {len(head)} bytes are too few for a checkpoint of llama2.c; fetch it again"
        )
    *sizes, vocab_size, max_seq_len = struct.unpack("<7i", head[:28])
    # The sign of the size of the vocabulary tells whether the output projection is there.
    return _Header._make((0, *sizes, abs(vocab_size), max_seq_len, vocab_size > 0, 1, 28))


def _config(header: _Header, path: Path) -> GPTConfig:
    try:
        return GPTConfig(
            header.vocab_size,
            header.max_seq_len,
            header.n_layers,
            header.n_heads,
            header.dim,
            n_kv_head=header.n_kv_heads,
            n_inner=header.hidden_dim,
            bias=False,
            norm="rms_norm",
            norm_eps=_RMS_EPS,
            position="rotary",
            rope_theta=_ROPE_THETA,
            mlp="gated",
            activation="silu",
            tie_embeddings=header.shared,
        )
    except ConfigError as error:
        raise CheckpointError(f"{path}: is no checkpoint of llama2.c ({error})") from None


def _shapes(header: _Header) -> dict[str, tuple[int, ...]]:
    """Give the shapes of what lies in a file under our own short names, those of a layer for one layer."""
    dim, inner, vocab = header.dim, header.hidden_dim, header.vocab_size
    kv = dim // header.n_heads * header.n_kv_heads
    return {
        "tok": (vocab, dim), "norm_1": (dim,), "q": (dim, dim), "k": (kv, dim), "v": (kv, dim), "o": (dim, dim),
        "norm_2": (dim,), "gate": (inner, dim), "down": (dim, inner), "up": (inner, dim), "norm": (dim,),
        "freqs": (2 * header.max_seq_len * (dim // header.n_heads // 2),), "head": (vocab, dim),
    }  # fmt: skip


def _order(header: _Header) -> Iterator[tuple[str, int]]:
    """Name what lies in a file, in its order: the short name, and the layer or -1."""
    layers = range(header.n_layers)
    matrices = ("q", "k", "v", "o")
    if header.version == 0:
        yield "tok", -1
        names: tuple[str, ...] = ("norm_1", *matrices, "norm_2", "gate", "down", "up")
    else:
        yield from ((name, layer) for name in ("norm_1", "norm_2") for layer in layers)
        yield "norm", -1
        yield "tok", -1
        names = (*matrices, "gate", "down", "up")
    yield from ((name, layer) for name in names for layer in layers)
    if header.version == 0:
        yield "norm", -1
        yield "freqs", -1  # of the rotation, which everybody computes
    if not header.shared:
        yield "head", -1


def _sizes(header: _Header) -> Iterator[tuple[str, int]]:
    shapes = _shapes(header)
    return ((name, int(np.prod(shapes[name]))) for name, _ in _order(header))


def _bytes_of(header: _Header) -> Callable[[tuple[str, int]], int]:
    def count(named: tuple[str, int]) -> int:
        name, size = named
        whole = header.version < 2 or "norm" in name
        return 4 * size if whole else size + 4 * (size // header.group_size)

    return count


_NAMES = {
    "tok": "model.embed_tokens", "norm": "model.norm", "head": "lm_head", "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}  # fmt: skip


def _tensors(header: _Header, data: npt.NDArray[np.uint8]) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Give every weight by transformers' name."""
    shapes, at = _shapes(header), header.start
    for (short, layer), named in zip(_order(header), _sizes(header), strict=True):
        end = at + _bytes_of(header)(named)
        part, at = data[at:end], end
        if short == "freqs":
            continue
        weight = _numbers(header, short, named[1], part).reshape(shapes[short])
        if short in ("q", "k"):
            weight = _halves(weight, header.n_heads if short == "q" else header.n_kv_heads)
        prefix = "" if layer < 0 else f"model.layers.{layer}."
        yield f"{prefix}{_NAMES[short]}.weight", weight


def _numbers(header: _Header, short: str, size: int, part: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    if header.version < 2 or "norm" in short:
        return np.asarray(part.view("<f4"), dtype=np.float32)
    scales = part[size:].view("<f4")
    groups = part[:size].view(np.int8).reshape(-1, header.group_size)
    # Scales may be anything; others' files may have such weights, too.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(groups * scales[:, None], dtype=np.float32).reshape(-1)


def _halves(weight: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Put rows of heads rotated in neighbouring pairs where those of pairs half a head apart are."""
    rows, width = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, width)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows, width)
