"""`load`: open a Hugging Face directory of a known family, a run, an adapter over its base, a GGUF or llama2.c file.

Nothing is ever unpickled.

What is checked before memory is spent: the directory, config.json (size, shape, family), the names in a shard
index, the first bytes of each weight file, their size beside the model's. The weight files themselves are
validated by the native reader.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from subgpt.adapters.attach import SAMPLE, note_origin
from subgpt.checkpoint.hub import fetch, is_hub_id
from subgpt.errors import CheckpointError, ConfigError, MissingFileError, first_line
from subgpt.model.config import GPTConfig
from subgpt.model.gpt import GPT
from subgpt.model.quantized import check_quantization
from subgpt.places import TOKENIZERS, beside, expanded, no_model

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.tokenizer import Tokenizer

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npz")
_CONVERT = (
    "is a format that can run code when opened, so it is never read; convert it once where you trust it: "
    "transformers' AutoModelForCausalLM.from_pretrained(…).save_pretrained(folder) writes model.safetensors"
)
_GIVE_BASE = "open its base with subgpt.load(…) and give it the adapter with model.load_adapter(…)"
_JSON_LIMIT = 64 << 20


def load(
    path_or_id: str | Path, *, dtype: str = "float32", quantize: str | None = None
) -> "tuple[GPT, Tokenizer | None]":
    """Open the model in a directory, and its tokenizer if there is one.

    The directory has config.json and model.safetensors, or shards with model.safetensors.index.json. A file
    `NAME.gguf` is a model for llama.cpp; `NAME.bin` is a checkpoint of llama2.c, with `tokenizer.bin` beside it
    (or `tok512.bin`, for 512 tokens). A directory with an adapter (adapter_config.json) is opened with the base that it
    names, and the adapter in use. `owner/model` that is no directory is a model of the Hugging Face hub,
    fetched through `huggingface_hub` (the `hub` extra; HF_HOME, HF_TOKEN and HF_HUB_OFFLINE count). What
    generation_config.json says of sampling and of where texts end is in `GPT.generation_config`, the chat template in
    `GPT.chat_template`. dtype: how matrix products are computed, as for `GPT`; the weights are float32 whatever it is,
    unless quantize is given: "bfloat16", "int8" or "int4" keeps those of linear layers so once they are loaded, as
    `GPT.quantize` does (under an adapter without the head, as it was trained).
    Raises MissingFileError, CheckpointError or ConfigError, naming file and remedy.

    >>> load("no/such/folder")
    Traceback (most recent call last):
    subgpt.errors.MissingFileError: no/such/folder: no such directory; give one with config.json and weights
    """
    if quantize is not None:
        check_quantization(quantize, "load")
    model, tokenizer = _open(path_or_id, dtype, quantize)
    if quantize is not None and model.quantization is None:
        model.quantize(quantize, head=not model.adapters)
    return model, tokenizer


def load_with_tokenizer(
    path_or_id: str | Path, *, dtype: str = "float32", quantize: str | None = None
) -> "tuple[GPT, Tokenizer]":
    """Open a model as `load` does, and its tokenizer, which must be there too: MissingFileError if it is not."""
    model, tokenizer = load(path_or_id, dtype=dtype, quantize=quantize)
    if tokenizer is None:
        path = expanded(path_or_id)
        place = path.parent if path.is_file() else path
        raise MissingFileError(
            f"{place / 'tokenizer.json'}: no such file; copy the model's tokenizer.json there"
        )
    return model, tokenizer


def locate(path_or_id: str | Path) -> Path:
    """Find the directory or file of a model, and fetch it if it is one of the hub, without opening it.

    Raises as `load` does where there is none.
    """
    for suffix in (".gguf", ".bin"):
        if (file := _file(path_or_id, suffix)) is not None:
            return file
    directory = _directory(path_or_id)
    if not (directory / "config.json").exists() and not is_adapter(directory):
        _refuse_unfinished(directory)
        raise MissingFileError(no_model(directory))
    return directory


@dataclass(frozen=True)
class Outline:
    """What a model's files say beside its weights; tokenizer and chat template are None without one."""

    config: GPTConfig
    tokenizer: "Tokenizer | None"
    chat_template: "ChatTemplate | None"


def outline(path_or_id: str | Path) -> Outline:
    """Read what a model would be trained with, found as by `load`, and no weights. Raises as it does."""
    return _outline(path_or_id)


def _outline(path_or_id: str | Path, *, over: Path | None = None) -> Outline:
    place = locate(path_or_id)
    if place.is_file():
        return _outline_file(place)
    if is_adapter(place):
        _refuse_under(over, place)
        base = _outline(_base_of(place), over=place)
    else:
        config = GPTConfig.from_hf(read_json(place / "config.json"), str(place / "config.json"))
        base = Outline(config, None, None)
    return Outline(
        base.config,
        _tokenizer(place, None) or base.tokenizer,
        _chat_template(place) or base.chat_template,
    )


def _outline_file(file: Path) -> Outline:
    if file.suffix.lower() != ".gguf":
        from subgpt.checkpoint.llama2c import outline_llama2c

        config = outline_llama2c(file)
        return Outline(config, _beside_llama2c(file, config), None)
    from subgpt.gguf.model import outline_gguf
    from subgpt.tokenizer.gguf import has_tokenizer

    config, template = outline_gguf(file)
    return Outline(config, _open_tokenizer(file, config) if has_tokenizer(file) else None, template)


def _open(
    path_or_id: str | Path, dtype: str, quantize: str | None = None, *, over: Path | None = None
) -> "tuple[GPT, Tokenizer | None]":
    """Open a model, whatever kind of file or directory it is.

    quantize: how weights are kept that can be read so straight from their files; those of others are float32.
    over: the adapter's directory that names it as base.
    """
    if (file := _file(path_or_id, ".gguf")) is not None:
        return _load_gguf(file, dtype, quantize)
    if (file := _file(path_or_id, ".bin")) is not None:
        return _load_llama2c(file, dtype)
    directory = locate(path_or_id)
    if directory.name.startswith(("step-", "best-")):
        from subgpt.checkpoint.checkpoints import check_opened  # which plain models are opened without

        check_opened(directory)
    if is_adapter(directory):
        _refuse_under(over, directory)
        return _load_adapter(directory, dtype)
    values = read_json(directory / "config.json")
    config = GPTConfig.from_hf(values, str(directory / "config.json"))
    files = _weight_files(directory)
    tokenizer = _tokenizer(directory, config)
    _check_size(config, files)
    model = GPT.blank(config, dtype=dtype)
    sample = 0 if quantize is None else SAMPLE
    note_origin(model, model.native.load_safetensors([str(file) for file in files], quantize, sample))
    model.generation_config = _generation_config(directory, values)
    model.chat_template = _chat_template(directory)
    model.name_or_path = str(directory.resolve()) if expanded(path_or_id).is_dir() else str(path_or_id)
    return model, tokenizer


def is_adapter(directory: Path) -> bool:
    """Tell whether a directory has an adapter and no model: its base is elsewhere."""
    return (directory / "adapter_config.json").exists() and not (directory / "config.json").exists()


def _refuse_under(over: Path | None, adapter: Path) -> None:
    """Refuse an adapter as the base of the one in `over`."""
    if over is not None:
        raise CheckpointError(
            f"{over / 'adapter_config.json'}: its base {adapter} is an adapter itself; merge that one into a "
            "model (subgpt merge), and name this as base"
        )


def _base_of(directory: Path) -> str | Path:
    """Give the model that an adapter's files name as its base: beside them, or anywhere."""
    from subgpt.adapters.files import load_adapter

    base = load_adapter(directory).config.base
    if not base:
        raise MissingFileError(f"{directory / 'adapter_config.json'}: names no base; {_GIVE_BASE}")
    beside = directory / base
    if beside.resolve() == directory.resolve():
        raise CheckpointError(
            f"{directory / 'adapter_config.json'}: names its own directory as base; {_GIVE_BASE}"
        )
    return beside if beside.exists() else base


def _load_adapter(directory: Path, dtype: str) -> "tuple[GPT, Tokenizer | None]":
    """Open the base of an adapter, and put the adapter over it."""
    base = _base_of(directory)
    try:
        model, tokenizer = _open(base, dtype, over=directory)
    except MissingFileError as error:
        raise MissingFileError(
            f"{directory}: is an adapter, and its base is missing ({error}); {_GIVE_BASE}"
        ) from None
    if (own := _tokenizer(directory, None)) is not None:
        tokenizer = own
        # Its special tokens may be newer than the base, and have had no training of their own.
        model.resize_embeddings(max(model.config.vocab_size, tokenizer.vocab_size))
    model.load_adapter(directory)
    model.chat_template = _chat_template(directory) or model.chat_template
    if (directory / "generation_config.json").exists():
        model.generation_config = _generation_config(directory, {})
    return model, tokenizer


def _file(path_or_id: str | Path, suffix: str) -> Path | None:
    """Give the path if it is a file of that kind, and neither a zip file nor a pickle under its name."""
    if not isinstance(path_or_id, str | os.PathLike) or not str(path_or_id):
        return None
    path = expanded(path_or_id)
    if path.suffix.lower() != suffix or not path.is_file():
        return None
    _look(path)
    return path


def _load_gguf(file: Path, dtype: str, quantize: str | None) -> "tuple[GPT, Tokenizer | None]":
    from subgpt.gguf.model import load_gguf
    from subgpt.tokenizer.gguf import has_tokenizer

    model = load_gguf(file, dtype=dtype, quantize=quantize)
    model.name_or_path = str(file.resolve())
    return model, _open_tokenizer(file, model.config) if has_tokenizer(file) else None


def _load_llama2c(file: Path, dtype: str) -> "tuple[GPT, Tokenizer | None]":
    from subgpt.checkpoint.llama2c import load_llama2c

    model = load_llama2c(file, dtype=dtype)
    model.name_or_path = str(file.resolve())
    return model, _beside_llama2c(file, model.config)


def _beside_llama2c(file: Path, config: GPTConfig) -> "Tokenizer | None":
    """Open the tokenizer beside a checkpoint of llama2.c; None without one."""
    from subgpt.checkpoint.llama2c import find_tokenizer

    place = find_tokenizer(file, config)
    return None if place is None else _open_tokenizer(place, config)


def _generation_config(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Read what a model's files say of how to sample from it; ConfigError for what cannot be."""
    from subgpt.generation.config import MODEL_SAYS, GenerationConfig

    path = directory / "generation_config.json"
    found = read_json(path) if path.exists() else {}
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds {type(found).__name__}, not a JSON object; fetch it again")
    values = {"eos_token_id": config.get("eos_token_id"), **found}
    said = {name: values[name] for name in MODEL_SAYS if values.get(name) is not None}
    try:
        GenerationConfig(**said)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return said


def read_json(path: Path) -> Any:
    """Read the JSON in `path`; CheckpointError if it is missing, huge, or something else."""
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise CheckpointError(f"{path}: larger than {_JSON_LIMIT >> 20} MiB; that is no configuration")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file; a model directory has one") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}; check the file") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({first_line(error)}); fetch the file again") from None


def _directory(path_or_id: str | Path) -> Path:
    if not isinstance(path_or_id, str | os.PathLike) or not str(path_or_id):
        raise MissingFileError(
            f"load: {path_or_id!r} names no directory; give one with config.json and weights"
        )
    path = expanded(path_or_id)
    if path.is_dir():
        return path
    if path.suffix in _PICKLES:
        raise CheckpointError(f"{path}: {_CONVERT}")
    if path.is_file() and path.suffix in (".safetensors", ".json"):
        raise CheckpointError(f"{path}: is a file; give the directory that holds it beside config.json")
    if path.is_file():
        raise CheckpointError(
            f"{path}: is no model; give a directory with config.json and weights, or a .gguf file"
        )
    near = beside(path, directories=True)
    # runs/bse beside runs/base is a slip, not a model of the hub's.
    if near is None and is_hub_id(str(path_or_id)):
        return fetch(str(path_or_id))
    meant = "" if near is None else f"did you mean {near!r}? "
    raise MissingFileError(f"{path}: no such directory; {meant}give one with config.json and weights")


def _refuse_unfinished(directory: Path) -> None:
    """Say what to do with a run that was killed: its model is written at the end, its checkpoints before."""
    from subgpt.checkpoint.checkpoints import list_checkpoints
    from subgpt.checkpoint.run_directory import RunDirectory

    checkpoints = list_checkpoints(RunDirectory(directory).checkpoints)
    if checkpoints:
        raise CheckpointError(
            f"{directory}: a run that has not come to its end; resume it (resume=True, --resume), or open its "
            f"newest checkpoint: {checkpoints[-1]}"
        )


def _weight_files(directory: Path) -> list[Path]:
    """Find the safetensors files of the model, each one there and plausible."""
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.exists():
        files = [single]
    elif index.exists():
        files = _shards(index)
    else:
        pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise CheckpointError(f"{directory / pickles[0]}: {_CONVERT}")
        raise MissingFileError(
            f"{single}: no such file; a model directory has it, or shards with {index.name}"
        )
    for file in files:
        _look(file)
    return files


def _shards(index: Path) -> list[Path]:
    values = read_json(index)
    shards = values.get("weight_map") if isinstance(values, dict) else None
    if (
        not isinstance(shards, dict)
        or not shards
        or not all(isinstance(name, str) for name in shards.values())
    ):
        raise CheckpointError(f"{index}: has no weight_map from tensor to file name; fetch the file again")
    names = sorted(set(shards.values()))
    for name in names:
        if name in ("", ".", "..") or PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
            raise CheckpointError(
                f"{index}: names {name!r}, which is not a plain file name; do not trust this index"
            )
        if not (index.parent / name).is_file():
            raise MissingFileError(
                f"{index.parent / name}: no such file, but {index.name} names it; fetch it too"
            )
    return [index.parent / name for name in names]


def _look(file: Path) -> None:
    """Recognise by the first bytes what is often saved under the name of a weight file."""
    try:
        with file.open("rb") as handle:
            head = handle.read(256)
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; check the file") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file}: a Git LFS pointer, not the weights; run: git lfs pull")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{file}: a web page, not weights; download the file itself")
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")) and head[8:9] != b"{":
        raise CheckpointError(f"{file}: {_CONVERT}")


def _check_size(config: GPTConfig, files: list[Path]) -> None:
    """Refuse a model far larger than its weights, before memory is taken for it."""
    size = sum(file.stat().st_size for file in files)
    if size < config.num_params():  # no format has less than a byte for a parameter
        raise CheckpointError(
            f"{files[0]}: {size:,} bytes are too few for the {config.num_params():,} parameters of the model "
            "that config.json describes; fetch both again"
        )


def _tokenizer(directory: Path, config: GPTConfig | None) -> "Tokenizer | None":
    """Open the tokenizer in `directory`, or for a checkpoint in its run directory; None without one."""
    for place in _places(directory):
        if any((place / name).exists() for name in TOKENIZERS):
            return _open_tokenizer(place, config)
    return None


def _chat_template(directory: Path) -> "ChatTemplate | None":
    """Read how conversations are written for a model; ConfigError for a file that is not what it should be."""
    from subgpt.data.chat.files import find_template

    found = (find_template(place) for place in _places(directory))
    return next((template for template in found if template is not None), None)


def _places(directory: Path) -> list[Path]:
    """List where a model's files may be: of a checkpoint some are in its run directory."""
    if (directory / "state.json").exists():
        return [directory, directory.resolve().parent.parent.parent]
    return [directory]


def _open_tokenizer(place: Path, config: GPTConfig | None) -> "Tokenizer":
    from subgpt.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(place)
    if config is not None and tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{place}: its tokenizer has {tokenizer.vocab_size} tokens, but the model beside it "
            f"has a vocabulary of {config.vocab_size}; they do not belong together"
        )
    return tokenizer
