"""GGUF tokenizer metadata, as llama.cpp reads it, through the `gguf` package.

A file holds no tensors, only the tokenizer: tokens in the byte alphabet, their types, the merges, and the name of
a split that llama.cpp knows. The whole ``tokenizer.json`` is in it as well, under the key that the GGUF
specification has for it, so that nothing is lost on the way back.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.errors import MissingExtraError, TokenizerError

if TYPE_CHECKING:
    from subgpt.tokenizer.tokenizer import Tokenizer

# How llama.cpp calls the splits: `pattern` of a Tokenizer, or its regular expression.
_GPT4_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT4_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_PRE = {
    "gpt2": "gpt-2",
    # llama.cpp ends white space at the very end of a text as Llama 3 does, not as cl100k does.
    "gpt4": "llama-bpe",
    rf"{_GPT4_HEAD}|\p{{N}}{{1,3}}|{_GPT4_TAIL}": "llama-bpe",
    rf"{_GPT4_HEAD}|\p{{N}}|{_GPT4_TAIL}": "qwen2",
    "o200k": "gpt-4o",
}


def _gguf() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingExtraError(
            "reading and writing GGUF needs the gguf package; install it with: pip install 'subgpt[gguf]'"
        ) from None
    return gguf


def save_gguf(tokenizer: Tokenizer, path: str | os.PathLike[str]) -> None:
    """Write a vocabulary-only GGUF file, whole or not at all.

    Raises:
        TokenizerError: llama.cpp has no name for how this tokenizer prepares and splits text.
        MissingExtraError: The gguf package is not installed.

    """
    gguf = _gguf()
    target = Path(path)
    text = tokenizer.to_json()
    parsed = json.loads(text)
    pre = _PRE.get(tokenizer.pattern or "")
    if tokenizer.level != "subword" or pre is None:
        raise TokenizerError(
            f"{target}: llama.cpp has no name for a tokenizer of level {tokenizer.level!r} with the split "
            f"{tokenizer.pattern!r}; save it as a tokenizer.json"
        )
    if parsed["normalizer"] is not None or any(
        token["lstrip"] or token["rstrip"] or token["single_word"] for token in parsed["added_tokens"]
    ):
        raise TokenizerError(
            f"{target}: llama.cpp has no words for a normalizer and for added tokens with conditions; "
            "save it as a tokenizer.json"
        )
    names = _names(parsed, tokenizer.vocab_size)
    special = {token["id"]: token["special"] for token in parsed["added_tokens"]}
    kinds = gguf.TokenType

    def kind(id: int) -> Any:
        if id in special:
            return kinds.CONTROL if special[id] else kinds.USER_DEFINED
        return kinds.UNUSED if names[id] is None else kinds.NORMAL

    merges = [f"{names[left]} {names[right]}" for left, right in tokenizer._native.merges()]
    partial = target.with_name(target.name + ".partial")
    try:
        writer = gguf.GGUFWriter(partial, "gpt2")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(
            [name if name is not None else f"[UNUSED{id}]" for id, name in enumerate(names)]
        )
        writer.add_token_types([int(kind(id)) for id in range(len(names))])
        writer.add_token_merges(merges)
        writer.add_string("tokenizer.huggingface.json", text)
        if tokenizer.eot_id is not None:
            writer.add_bos_token_id(tokenizer.eot_id)
            writer.add_eos_token_id(tokenizer.eot_id)
        writer.add_add_bos_token(False)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _names(parsed: dict[str, Any], size: int) -> list[str | None]:
    names: list[str | None] = [None] * size
    for name, id in parsed["model"]["vocab"].items():
        names[id] = name
    for token in parsed["added_tokens"]:
        names[token["id"]] = token["content"]
    return names


def load_gguf(path: str | os.PathLike[str]) -> Tokenizer:
    """Read the tokenizer of a GGUF file: byte-level BPE, or any that comes with its ``tokenizer.json``.

    Raises:
        TokenizerError: The file is damaged, or its tokenizer is of a kind or split that is not known.
        MissingExtraError: The gguf package is not installed.

    """
    from subgpt.tokenizer.tokenizer import Tokenizer

    gguf = _gguf()
    try:
        fields = gguf.GGUFReader(path, "r").fields
        values = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}
    except (ValueError, IndexError, KeyError, OverflowError, OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path}: is no GGUF file that can be read ({error}); copy it again") from None
    whole = values.get("tokenizer.huggingface.json")
    if isinstance(whole, str):
        return Tokenizer.from_json(whole)
    model, pre = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if model != "gpt2":
        raise TokenizerError(
            f"{path}: tokenizer.ggml.model is {model!r}; byte-level BPE ('gpt2') is read, others where the file "
            "holds a tokenizer.json: load that from the model's own directory"
        )
    patterns = {name: pattern for pattern, name in reversed(_PRE.items())}
    patterns["llama-bpe"] = rf"{_GPT4_HEAD}|\p{{N}}{{1,3}}|{_GPT4_TAIL}"
    if pre not in patterns:
        raise TokenizerError(
            f"{path}: tokenizer.ggml.pre is {pre!r}; known are {', '.join(sorted(patterns))}; "
            "load the model's tokenizer.json instead"
        )
    return Tokenizer.from_json(json.dumps(_tokenizer_json(path, values, patterns[pre], pre == "llama-bpe")))


def _tokenizer_json(
    path: str | os.PathLike[str], values: dict[str, Any], pattern: str, whole_first: bool
) -> dict[str, Any]:
    from subgpt import _core

    tokens, merges = values.get("tokenizer.ggml.tokens"), values.get("tokenizer.ggml.merges")
    if not isinstance(tokens, list) or not isinstance(merges, list):
        raise TokenizerError(
            f"{path}: has no tokenizer.ggml.tokens and merges; it is no tokenizer of this kind"
        )
    types = values.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise TokenizerError(f"{path}: has {len(tokens)} tokens and {len(types)} token types; copy it again")
    # Types of the format: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    added = [
        {"id": id, "content": token, "special": kind == 3}
        for id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (3, 4)
    ]
    regex = _core.known_pattern(pattern)
    steps: list[dict[str, Any]] = [
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex is None}
    ]
    if regex is not None:
        steps.insert(
            0, {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        )
    return {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "ignore_merges": whole_first,
            "vocab": {
                token: id for id, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind != 5
            },
            "merges": merges,
        },
    }
