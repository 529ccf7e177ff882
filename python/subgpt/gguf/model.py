"""Models to GGUF files and back. What was written is read again and compared before it counts as written."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.adapters.attach import SAMPLE, note_origin, refuse_adapters
from subgpt.checkpoint.run_directory import naming
from subgpt.data.chat.template import ChatTemplate
from subgpt.errors import CheckpointError, ConfigError, OutputError
from subgpt.gguf.architectures import Entry, architecture_of, metadata, read_config, rope_factors
from subgpt.gguf.tensors import places
from subgpt.model.config import GPTConfig
from subgpt.model.gpt import GPT
from subgpt.model.quantized import refuse_quantized
from subgpt.places import expanded
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

# ggml's numbers of what most tensors of a file are.
_FILE_TYPES = {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q4_0": 2}
FORMATS = tuple(_FILE_TYPES)
"""The formats of matrices in files that are written."""

# How far the distributions of a file's model may be from ours, in nats a token, before something must be wrong:
# rounding alone stays an order of magnitude below.
_FARTHEST = {"f32": 1e-4, "f16": 1e-2, "bf16": 1e-1, "q8_0": 1e-1, "q4_0": 2.0}
_PROBE = 64
_CHAT_TEMPLATE = "tokenizer.chat_template"


class Exported(NamedTuple):
    """What was written.

    path, bytes: the file and its size. architecture: llama.cpp's name for it. divergence: how far the file's next-token
    distributions are from the model's, the mean Kullback-Leibler divergence in nats. agreement: share of
    positions with the same most probable token.
    """

    path: Path
    bytes: int
    architecture: str
    divergence: float
    agreement: float


def save_gguf(
    model: GPT,
    path: str | os.PathLike[str],
    *,
    tokenizer: "Tokenizer | None" = None,
    quantize: str = "f32",
    name: str | None = None,
) -> Exported:
    """Write a model for llama.cpp, whole or not at all.

    quantize: the format of matrices: "f32", "f16", "bf16", "q8_0" (8 bits, blocks of 32) or "q4_0" (4 bits).
    name: what the file calls the model; the file's name without its ending if None. tokenizer: written too.

    The file is read again beside its final name, and its model run on some tokens: only if that gives the same
    distributions, as far as the format allows, it gets the name.

    Raises ConfigError for a model that llama.cpp has no architecture for, that is quantized or that adapters lie over,
    TokenizerError for a tokenizer that it has no name for, CheckpointError if the file is not what it should be.
    """
    target = expanded(path)
    refuse_quantized(model, f"{target}: export", "export the float32 model with quantize='q8_0' or 'q4_0'")
    if quantize not in FORMATS:
        raise ConfigError(
            f"export: quantize = {quantize!r} is not known; {did_you_mean(str(quantize), FORMATS)}"
        )
    refuse_adapters(model, f"{target}: exporting the model")
    architecture = architecture_of(model.config)
    entries: list[Entry] = [
        ("general.architecture", "str", architecture),
        ("general.name", "str", name or target.stem),
        ("general.file_type", "u32", _FILE_TYPES[quantize]),
        ("general.quantization_version", "u32", 2),
        *metadata(model.config, architecture),
        *_tokenizer_entries(model, tokenizer),
    ]
    if tokenizer is not None and model.chat_template is not None:
        entries.append((_CHAT_TEMPLATE, "str", model.chat_template.source))
    if target.is_dir():
        raise OutputError(f"{target}: is a directory; name a file, such as {target / 'model.gguf'}")
    if target.exists() and not target.is_file():  # /dev/null say, which a finished file would replace
        raise OutputError(f"{target}: is not a regular file; name one, such as model.gguf")
    parts = places(_shapes(model), model.config, architecture, quantize)
    partial = target.with_name(f".{target.name}.unfinished-{os.getpid()}")
    with naming(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _core.save_gguf(model.native, str(partial), entries, parts, _extras(model, architecture))
        divergence, agreement = _compare(model, load_gguf(partial, dtype=model.dtype))
        if not divergence < _FARTHEST[quantize]:
            raise CheckpointError(
                f"{target}: the file's model is {divergence:.3g} nats a token from the one that was exported, "
                f"more than {quantize} can be, and was not kept; choose a finer format, or look for weights "
                "that are not finite"
            )
        size = partial.stat().st_size
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(target, size, architecture, divergence, agreement)


def load_gguf(path: str | os.PathLike[str], *, dtype: str = "float32", quantize: str | None = None) -> GPT:
    """Open the model in a GGUF file; blocks of fewer bits are widened to float32, or rounded again with `quantize`.

    Raises CheckpointError, naming the file, for what is damaged, or an architecture that is not known.
    """
    values, shapes, config = _read_head(path)
    if config.num_params() > 2 * sum(int(np.prod(shape)) for shape in shapes.values()):
        raise CheckpointError(
            f"{path}: its metadata describes a model far larger than its tensors; convert it again"
        )
    model = GPT.blank(config, dtype=dtype)
    parts = places(_shapes(model), config, values["general.architecture"])
    known = {part.name for part in parts} | {"rope_freqs.weight"} | dict(_zero_biases(model)).keys()
    if extra := sorted(shapes.keys() - known):
        raise CheckpointError(
            f"{path}: tensor {extra[0]} has no place in a model of its metadata; convert the model again"
        )
    sample = 0 if quantize is None else SAMPLE
    note_origin(model, _core.load_gguf(model.native, str(path), parts, quantize, sample))
    eos = _id(values, "eos", config.vocab_size)
    model.generation_config = {} if eos is None else {"eos_token_id": [eos]}
    model.chat_template = _chat_template(values, str(path))
    return model


def outline_gguf(path: str | os.PathLike[str]) -> tuple[GPTConfig, ChatTemplate | None]:
    """Read the configuration and the chat template of a file's model, and no weights."""
    values, _, config = _read_head(path)
    return config, _chat_template(values, str(path))


def _read_head(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, list[int]], GPTConfig]:
    """Read the metadata, the shapes of the tensors, and the configuration that both describe."""
    values, tensors = _core.read_gguf(str(path))
    shapes = {name: shape for name, shape, _ in tensors}
    embedding = shapes.get("token_embd.weight")
    if embedding is None or len(embedding) != 2:
        raise CheckpointError(f"{path}: has no matrix token_embd.weight, so it is no model; convert it again")
    factors = _core.gguf_tensor(str(path), "rope_freqs.weight") if "rope_freqs.weight" in shapes else None
    return (
        values,
        shapes,
        read_config(values, embedding[0], "output.weight" not in shapes, factors, str(path)),
    )


def _chat_template(values: Mapping[str, Any], path: str) -> ChatTemplate | None:
    """Read the chat template, which may use the names of the tokens that begin and end a text."""
    source, tokens = values.get(_CHAT_TEMPLATE), values.get("tokenizer.ggml.tokens")
    if not isinstance(source, str):
        return None
    tokens = tokens if isinstance(tokens, list) else []
    ids = {f"{name}_token": _id(values, name, len(tokens)) for name in ("bos", "eos")}
    return ChatTemplate(source, path, {name: str(tokens[id]) for name, id in ids.items() if id is not None})


def _id(values: Mapping[str, Any], name: str, size: int) -> int | None:
    """Give the id of a special token, if the file has one that is in a vocabulary of that size."""
    found = values.get(f"tokenizer.ggml.{name}_token_id")
    return found if type(found) is int and 0 <= found < size else None


def _shapes(model: GPT) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in model.native.tensor_shapes()}


def _tokenizer_entries(model: GPT, tokenizer: "Tokenizer | None") -> list[Entry]:
    if tokenizer is None:
        return [("tokenizer.ggml.model", "str", "none")]
    from subgpt.model.fit import check_fit
    from subgpt.tokenizer.gguf import tokenizer_entries

    check_fit(model, tokenizer, "export")
    return tokenizer_entries(tokenizer, model.config.vocab_size)


def _extras(model: GPT, architecture: str) -> list[tuple[str, list[float]]]:
    """Give the tensors that a file needs and the model has not."""
    factors = rope_factors(model.config)
    rope = [] if factors is None else [("rope_freqs.weight", factors)]
    return rope + (_zero_biases(model) if architecture == "gpt2" else [])


def _zero_biases(model: GPT) -> list[tuple[str, list[float]]]:
    """Give GPT-2's biases, which llama.cpp asks for, as zeros where the model has none."""
    config = model.config
    if config.bias or not config.is_gpt2:
        return []
    width, inner = config.n_embd, config.inner_size
    block = {
        "attn_norm": width, "attn_qkv": 3 * width, "attn_output": width, "ffn_norm": width, "ffn_up": inner,
        "ffn_down": width,
    }  # fmt: skip
    names = {
        f"blk.{layer}.{name}.bias": size for layer in range(config.n_layer) for name, size in block.items()
    }
    return [(name, [0.0] * size) for name, size in {**names, "output_norm.bias": width}.items()]


def _compare(model: GPT, again: GPT) -> tuple[float, float]:
    """Give the mean divergence of two models' distributions, and how often their best tokens agree."""
    config = model.config
    length = min(_PROBE, config.block_size)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (2, length), dtype=np.int64)
    ours, theirs = (_log_softmax(one.forward(ids)) for one in (model, again))
    divergence = float((np.exp(ours) * (ours - theirs)).sum(-1).mean())
    return divergence, float((ours.argmax(-1) == theirs.argmax(-1)).mean())


def _log_softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(-1, keepdims=True)))
