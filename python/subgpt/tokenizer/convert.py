"""Writing a tokenizer in another format, after reading it back to see that it gives the same ids."""

from __future__ import annotations

import itertools
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.errors import TokenizerError
from subgpt.tokenizer.arguments import path_argument
from subgpt.tokenizer.saving import ENDINGS, format_of
from subgpt.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from subgpt.tokenizer.saving import Format

_NAMES: dict[Format, str] = {"tiktoken": "tokenizer.tiktoken", "gguf": "tokenizer.gguf"}


def convert(tokenizer: Tokenizer, path: str | os.PathLike[str], *, format: Format | None = None) -> Path:
    """Write a tokenizer in another format, and make sure that what was written gives the same ids.

    Args:
        tokenizer: The tokenizer.
        path: A directory or file, as in `Tokenizer.save`.
        format: As in `Tokenizer.save`.

    Returns:
        What `Tokenizer.load` reads.

    Raises:
        TokenizerError: The format cannot hold this tokenizer, or gives other ids for some text, which is named.

    """
    target = Path(path_argument(path))
    chosen = format or format_of(target)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / (target.name if target.suffix.lower() in ENDINGS else "tokenizer")
        tokenizer.save(trial, format=chosen)
        _check(tokenizer, _written(trial, chosen), chosen)
    tokenizer.save(target, format=chosen)
    return _written(target, chosen)


def _written(target: Path, format: Format) -> Path:
    return target / _NAMES[format] if format in _NAMES and target.is_dir() else target


def _check(tokenizer: Tokenizer, written: Path, format: Format) -> None:
    """Refuse what gives other ids than `tokenizer`."""
    # Files of ranks and merges say nothing of the split and the special tokens: those come along.
    again = (
        Tokenizer.load(written, pattern=tokenizer.pattern, special_tokens=tokenizer.special_tokens)
        if format in ("tiktoken", "vocab-merges")
        else Tokenizer.load(written)
    )
    for text in torture_texts(tokenizer):
        before = tokenizer.encode_ordinary(text).tolist()
        after = again.encode_ordinary(text).tolist()
        if before != after:
            raise TokenizerError(
                f"{format}: gives other ids for {text[:80]!r} ({after[:8]} instead of {before[:8]}); "
                "this format cannot hold this tokenizer: use tokenizer.json"
            )


def torture_texts(tokenizer: Tokenizer) -> list[str]:
    """Give texts that hit every border: classes of characters, contractions, numbers, white space, and tokens."""
    characters = [
        *map(chr, range(0x250)),
        *(
            chr(code)
            for code in range(0x250, 0x30000, 97)
            if unicodedata.category(chr(code)) not in ("Cs", "Cn")
        ),
        "\U0001f468‍\U0001f469‍\U0001f467",
        "\U0001f1e9\U0001f1ea",
        "é",
    ]
    words = [
        "it's",
        "IT'S",
        "they'll",
        "we've",
        "I'D",
        "don'tcha",
        "'tis",
        "rock'n'roll",
        "HTTPServer",
        "camelCase",
        "snake_case",
        "x=1;//y",
    ]
    spaces = ["", " ", "  ", "\t", "\n", "\r\n", "\n\n ", " \n", " ", "　"]
    texts = [f"a{c}b {c}{c} {c}1" for c in characters]
    texts += [f"{left}{space}{right}{space}" for left, right in itertools.pairwise(words) for space in spaces]
    texts += ["1234567890" * n for n in (1, 3)] + ["a" * n for n in (1, 15, 16, 17, 49, 200)]
    step = max(1, tokenizer.vocab_size // 5000)
    tokens = [tokenizer.decode([id], errors="ignore") for id in range(0, tokenizer.vocab_size, step)]
    texts += tokens
    texts += [left + right for left, right in zip(tokens, reversed(tokens), strict=True)]
    return texts
