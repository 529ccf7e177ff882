"""Training tokenizers: where the text comes from, and what the native trainer is told."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

from subgpt import _core
from subgpt.errors import DataError, DtypeError, InvalidValueError
from subgpt.tokenizer.arguments import integer, names, optional_integer, text_argument

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource


class TrainOptions(TypedDict, total=False):
    """The options of `Tokenizer.train` besides the size; `train` wants all of them."""

    level: Literal["char", "word", "subword"]
    pattern: str
    special_tokens: Iterable[str]
    min_frequency: int
    max_token_length: int | None
    limit_alphabet: int | None
    max_memory: int | None
    text_field: str
    errors: Literal["replace", "strict"]
    progress: Callable[[int, int], None] | None


def train(
    source: DocumentSource, vocab_sizes: Iterable[int | None], options: TrainOptions
) -> list[_core.Tokenizer]:
    """Train a native tokenizer of each size; see `Tokenizer.train`."""
    if isinstance(vocab_sizes, str) or not isinstance(vocab_sizes, Iterable):
        raise DtypeError(f"vocab_size must be int or a list of int, not {type(vocab_sizes).__name__}")
    wanted = list(vocab_sizes)
    if not wanted:
        raise InvalidValueError("vocab_size is an empty list; name at least one size")
    sizes = [integer("vocab_size", size, 1) for size in wanted if size is not None]
    checked = {
        "level": text_argument("level", options["level"]),
        "vocab_sizes": sizes,
        "pattern": text_argument("pattern", options["pattern"]),
        "special_tokens": names("special_tokens", options["special_tokens"]),
        "min_frequency": integer("min_frequency", options["min_frequency"], 0),
        "max_token_length": optional_integer("max_token_length", options["max_token_length"], 1),
        "limit_alphabet": optional_integer("limit_alphabet", options["limit_alphabet"], 1),
        "max_memory": optional_integer("max_memory", options["max_memory"], 1),
    }
    errors = options["errors"]
    paths, texts = _open(source, text_argument("text_field", options["text_field"]), errors)
    try:
        tokenizers, (pieces, occurrences, at_most) = _core.Tokenizer.train(
            paths, texts, checked, errors, options["progress"]
        )
    except DataError as error:
        if not paths or any(path in str(error) for path in paths):
            raise
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise DataError(f"{paths[0]}{more}: {error}") from None
    if pieces:
        warnings.warn(
            f"max_memory is too little for all distinct pieces of this text: {pieces} of them, seen "
            f"{at_most} times or less each and {occurrences} times together, were left out",
            stacklevel=3,
        )
    return tokenizers


def _open(
    source: DocumentSource, text_field: str, errors: Literal["replace", "strict"]
) -> tuple[list[str], Iterable[str]]:
    """Sort a source into plain UTF-8 files, which the core reads, and texts that Python reads."""
    from subgpt.data.documents import documents_of, open_source
    from subgpt.data.sources import FoundFiles

    opened = open_source(source)
    if not isinstance(opened, FoundFiles):
        return [], opened
    plain: list[str] = []
    others: list[Path] = []
    for path in opened.files:
        if _is_plain(path):
            plain.append(str(path))
        else:
            others.append(path)
    if not others:
        return plain, ()
    documents = documents_of(FoundFiles(tuple(others)), text_field=text_field, errors=errors, separator=None)
    return plain, (document.text for document in documents)


def _is_plain(path: os.PathLike[str]) -> bool:
    from subgpt.data.decoding import UTF16_BOMS
    from subgpt.data.jsonl import is_jsonl
    from subgpt.data.reading import is_compressed

    if is_jsonl(Path(path)) or is_compressed(Path(path)):
        return False
    with Path(path).open("rb") as file:
        return not file.read(2).startswith(UTF16_BOMS)
