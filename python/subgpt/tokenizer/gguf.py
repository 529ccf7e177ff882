"""GGUF tokenizer metadata, as llama.cpp reads it.

A file of a tokenizer holds no tensors, only tokens in the byte alphabet, their types, the merges, and the name of
a split that llama.cpp knows. The whole ``tokenizer.json`` is in it as well, under the key that the GGUF
specification has for it, so that nothing is lost on the way back.
"""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.errors import TokenizerError

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


_LARGEST = 3.4e38  # of a score, which is a float32
_LLAMAS_BOS = 1

# The types of tokens in the format.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6


def save_gguf(entries: list[tuple[str, str, Any]], path: Path) -> None:
    """Write a vocabulary-only GGUF file of `tokenizer_entries`, whole or not at all."""
    _core.write_gguf(str(path), [("general.architecture", "str", "gpt2"), *entries])


def tokenizer_entries(
    tokenizer: Tokenizer, size: int, target: Path | None = None
) -> list[tuple[str, str, Any]]:
    """Give a tokenizer's metadata, for a vocabulary of ``size`` (with unused entries behind its own).

    Raises:
        TokenizerError: llama.cpp has no name for how this tokenizer prepares and splits text; ``target`` is in
            front of it.

    """
    place = "export" if target is None else target
    text = tokenizer.to_json()
    parsed = json.loads(text)
    if parsed["model"].get("byte_fallback"):
        return _sentencepiece_entries(tokenizer, parsed, text, size, place)
    pre = _PRE.get(tokenizer.pattern or "")
    if tokenizer.level != "subword" or pre is None:
        raise TokenizerError(
            f"{place}: llama.cpp has no name for a tokenizer of level {tokenizer.level!r} with the split "
            f"{tokenizer.pattern!r}; save it as a tokenizer.json"
        )
    if parsed["normalizer"] is not None or any(
        token["lstrip"] or token["rstrip"] or token["single_word"] for token in parsed["added_tokens"]
    ):
        raise TokenizerError(
            f"{place}: llama.cpp has no words for a normalizer and for added tokens with conditions; "
            "save it as a tokenizer.json"
        )
    names = _names(parsed, size)
    special = {token["id"]: token["special"] for token in parsed["added_tokens"]}

    def kind(id: int) -> int:
        if id in special:
            return _CONTROL if special[id] else _USER_DEFINED
        return _UNUSED if names[id] is None else _NORMAL

    entries: list[tuple[str, str, Any]] = [
        ("tokenizer.ggml.model", "str", "gpt2"),
        ("tokenizer.ggml.pre", "str", pre),
        ("tokenizer.ggml.tokens", "[str]", [name or f"[UNUSED{id}]" for id, name in enumerate(names)]),
        ("tokenizer.ggml.token_type", "[i32]", [kind(id) for id in range(len(names))]),
        (
            "tokenizer.ggml.merges",
            "[str]",
            [f"{names[left]} {names[right]}" for left, right in tokenizer._native.merges()],
        ),
    ]
    return [*entries, *_common_entries(tokenizer, text, tokenizer.eot_id)]


def _common_entries(tokenizer: Tokenizer, text: str, eos: int | None) -> list[tuple[str, str, Any]]:
    """Give what stands around texts, and the whole tokenizer.json."""
    before, _ = tokenizer.template
    ids = {"bos": before[0] if before else tokenizer.eot_id, "eos": eos, "unknown": tokenizer.unk_id}
    return [
        ("tokenizer.huggingface.json", "str", text),
        ("tokenizer.ggml.add_bos_token", "bool", bool(before)),
        *((f"tokenizer.ggml.{name}_token_id", "u32", id) for name, id in ids.items() if id is not None),
    ]


def _sentencepiece_entries(
    tokenizer: Tokenizer, parsed: dict[str, Any], text: str, size: int, place: object
) -> list[tuple[str, str, Any]]:
    """Give the metadata of a SentencePiece model of type BPE: pieces with scores, whose order is that of merges."""
    prefix = _space_prefix(parsed)
    special = {token["id"]: token for token in parsed["added_tokens"]}
    conditions = any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in special.values())
    if prefix is None or conditions:
        raise TokenizerError(
            f"{place}: llama.cpp has no words for how this tokenizer prepares text; save it as a tokenizer.json"
        )
    names, unknown = _names(parsed, size), parsed["model"].get("unk_token")
    ranks: dict[int, int] = {}
    ids = parsed["model"]["vocab"]
    for rank, merge in enumerate(parsed["model"]["merges"]):
        left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
        ranks.setdefault(ids[left + right], rank)

    def kind(id: int) -> int:
        name = names[id]
        if name is None:
            return _UNUSED
        if name == unknown:
            return _UNKNOWN
        if re.fullmatch(r"<0x[0-9A-F]{2}>", name):
            return _BYTE
        return (_CONTROL if special[id]["special"] else _USER_DEFINED) if id in special else _NORMAL

    tokens = [
        f"[UNUSED{id}]" if name is None else name.replace(" ", "\u2581") for id, name in enumerate(names)
    ]
    last = float(len(ranks))
    return [
        ("tokenizer.ggml.model", "str", "llama"),
        ("tokenizer.ggml.pre", "str", "default"),
        ("tokenizer.ggml.tokens", "[str]", tokens),
        ("tokenizer.ggml.scores", "[f32]", [-float(ranks.get(id, last)) for id in range(size)]),
        ("tokenizer.ggml.token_type", "[i32]", [kind(id) for id in range(size)]),
        ("tokenizer.ggml.add_space_prefix", "bool", prefix),
        *_common_entries(tokenizer, text, tokenizer.special_tokens.get("</s>", tokenizer.eot_id)),
    ]


def _space_prefix(parsed: dict[str, Any]) -> bool | None:
    """Tell whether a SentencePiece model puts a space before texts; None where it does anything else to them."""
    normalizer, split = (
        parsed["normalizer"] or {"type": "Sequence", "normalizers": []},
        parsed["pre_tokenizer"],
    )
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    prefix = False
    for step in steps:
        if step["type"] == "Prepend" and step["prepend"] in (" ", "\u2581"):
            prefix = True
        elif step["type"] != "Replace" or (step["pattern"], step["content"]) != ({"String": " "}, "\u2581"):
            return None
    if split is None:
        return prefix
    plain = split["type"] == "Metaspace" and not split.get("split", True) and split["replacement"] == "\u2581"
    return prefix or split.get("prepend_scheme", "always") != "never" if plain else None


def _names(parsed: dict[str, Any], size: int) -> list[str | None]:
    names: list[str | None] = [None] * size
    for name, id in parsed["model"]["vocab"].items():
        names[id] = name
    for token in parsed["added_tokens"]:
        names[token["id"]] = token["content"]
    return names


def has_tokenizer(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file has a tokenizer in it; a model may be without one."""
    return str(_core.read_gguf(os.fspath(path))[0].get("tokenizer.ggml.model", "none")) != "none"


def load_gguf(path: str | os.PathLike[str]) -> Tokenizer:
    """Read the tokenizer of a GGUF file: byte-level BPE, or any that comes with its ``tokenizer.json``.

    Raises:
        CheckpointError: The file is damaged.
        TokenizerError: Its tokenizer is of a kind or split that is not known.

    """
    values, _ = _core.read_gguf(os.fspath(path))
    whole = values.get("tokenizer.huggingface.json")
    if isinstance(whole, str):
        return _from_json(whole, path)
    model, pre = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if model == "llama":
        return _read_sentencepiece(path, values)
    if model != "gpt2":
        raise TokenizerError(
            f"{path}: tokenizer.ggml.model is {model!r}; byte-level BPE ('gpt2') is read, others where the file "
            "holds a tokenizer.json: load that from the model's own directory"
        )
    patterns = {name: pattern for pattern, name in reversed(_PRE.items())}
    patterns["llama-bpe"] = rf"{_GPT4_HEAD}|\p{{N}}{{1,3}}|{_GPT4_TAIL}"
    if not isinstance(pre, str) or pre not in patterns:
        raise TokenizerError(
            f"{path}: tokenizer.ggml.pre is {pre!r}; known are {', '.join(sorted(patterns))}; "
            "load the model's tokenizer.json instead"
        )
    return _from_json(json.dumps(_tokenizer_json(path, values, patterns[pre], pre == "llama-bpe")), path)


def _from_json(text: str, path: str | os.PathLike[str]) -> Tokenizer:
    from subgpt.tokenizer.tokenizer import Tokenizer

    try:
        return Tokenizer.from_json(text)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None


def _read_sentencepiece(path: str | os.PathLike[str], values: dict[str, Any]) -> Tokenizer:
    """Read pieces with scores in Llama's order: unknown, begin, end, the 256 bytes, and all others.

    That is the order of llama2.c's files, which differ from them in their spaces alone.
    """
    from subgpt.tokenizer.tokenizer import Tokenizer

    tokens, scores = _list(values, "tokens", str), _list(values, "scores", float)
    kinds = _list(values, "token_type", int)
    if tokens is None or scores is None or kinds is None:
        raise TokenizerError(f"{path}: has not tokens, scores and token types; convert the model again")
    llamas = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256]
    plain = (
        kinds[:259] == llamas and set(kinds[259:]) <= {_NORMAL} and len(tokens) == len(scores) == len(kinds)
    )
    if not plain or values.get("tokenizer.ggml.add_space_prefix", True) is not True:
        raise TokenizerError(
            f"{path}: its SentencePiece tokenizer is not laid out as Llama's, which alone is read from a GGUF file; "
            "load the model's Hugging Face files"
        )
    pieces = [token.replace("\u2581", " ").encode() for token in tokens]
    if not all(abs(score) <= _LARGEST for score in scores):
        raise TokenizerError(f"{path}: has scores that are not finite; convert the model again")
    file = struct.pack("<i", max(map(len, pieces), default=0)) + b"".join(
        struct.pack("<fi", score, len(piece)) + piece for score, piece in zip(scores, pieces, strict=True)
    )
    made = Tokenizer._wrap(_core.Tokenizer.restore("tokenizer.bin", file))
    begin = _begin(path, values, len(tokens), adds=True, usual=_LLAMAS_BOS)
    if begin == _LLAMAS_BOS:
        return made
    try:
        parsed = json.loads(made.to_json())
    except TokenizerError as error:
        raise TokenizerError(f"{path}: does not begin texts as Llama's tokenizer does; {error}") from None
    return _from_json(json.dumps({**parsed, "post_processor": _template(tokens, begin)}), path)


def _begin(
    path: str | os.PathLike[str], values: dict[str, Any], size: int, *, adds: bool, usual: int | None = None
) -> int | None:
    """Give the id that llama.cpp puts before every text, if it does.

    adds, usual: whether it does, and with what id, where the file does not say.
    """
    id = values.get("tokenizer.ggml.bos_token_id", usual)
    if values.get("tokenizer.ggml.add_bos_token", adds) is not True or id is None:
        return None
    if type(id) is not int or not 0 <= id < size:
        raise TokenizerError(
            f"{path}: tokenizer.ggml.bos_token_id is {id!r}, of {size} tokens; convert the model again"
        )
    return id


def _template(tokens: list[str], begin: int | None) -> dict[str, Any] | None:
    """Give the post-processor that puts `begin` before a text."""
    if begin is None:
        return None
    name = tokens[begin]

    def part(sequence: str, kind: int) -> list[dict[str, Any]]:
        return [
            {"SpecialToken": {"id": name, "type_id": kind}},
            {"Sequence": {"id": sequence, "type_id": kind}},
        ]

    return {
        "type": "TemplateProcessing",
        "single": part("A", 0),
        "pair": [*part("A", 0), *part("B", 1)],
        "special_tokens": {name: {"id": name, "ids": [begin], "tokens": [name]}},
    }


def _list(values: dict[str, Any], name: str, kind: type) -> list[Any] | None:
    """Give an array of the metadata; None where there is none, or one of something else."""
    found = values.get(f"tokenizer.ggml.{name}")
    return found if isinstance(found, list) and all(type(entry) is kind for entry in found) else None


def _tokenizer_json(
    path: str | os.PathLike[str], values: dict[str, Any], pattern: str, whole_first: bool
) -> dict[str, Any]:
    tokens, merges = _list(values, "tokens", str), _list(values, "merges", str)
    if tokens is None or merges is None:
        raise TokenizerError(
            f"{path}: has no tokenizer.ggml.tokens and merges; it is no tokenizer of this kind"
        )
    types = _list(values, "token_type", int) or [_NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise TokenizerError(f"{path}: has {len(tokens)} tokens and {len(types)} token types; copy it again")
    added = [
        {"id": id, "content": token, "special": kind == _CONTROL}
        for id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    # Llama 3's files do not say that texts have a beginning: llama.cpp knows by their split.
    begin = _begin(path, values, len(tokens), adds=whole_first)
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
        "post_processor": _template(tokens, begin),
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "ignore_merges": whole_first,
            "vocab": {
                token: id
                for id, (token, kind) in enumerate(zip(tokens, types, strict=True))
                if kind != _UNUSED
            },
            "merges": merges,
        },
    }
