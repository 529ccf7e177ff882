"""What a tokenizer is written as, where, and what stands in the way of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from subgpt.tokenizer.tokenizer import Tokenizer

Format: TypeAlias = Literal["tokenizer.json", "tiktoken", "vocab-merges", "gguf"]

ENDINGS: dict[str, Format] = {".json": "tokenizer.json", ".tiktoken": "tiktoken", ".gguf": "gguf"}
"""What a file's name says of its format."""


def format_of(path: Path) -> Format:
    """Tell by its name what a tokenizer is saved as; a directory holds a ``tokenizer.json``, whatever its name."""
    return "tokenizer.json" if path.is_dir() else ENDINGS.get(path.suffix.lower(), "tokenizer.json")


def save(tokenizer: Tokenizer, target: Path, format: Format) -> None:
    """Write a tokenizer, as `Tokenizer.save` describes it."""
    if format != "gguf":
        tokenizer._native.save(str(target), format)
        return
    from subgpt.checkpoint.run_directory import naming
    from subgpt.tokenizer.gguf import save_gguf, tokenizer_entries

    file = _gguf_file(target)
    entries = tokenizer_entries(tokenizer, tokenizer.vocab_size, file)
    if file != target:
        with naming(target):
            target.mkdir(parents=True, exist_ok=True)
    save_gguf(entries, file)


def check_target(tokenizer: Tokenizer, target: Path, format: Format) -> None:
    """Raise what `save` would raise for this tokenizer and for what lies there; nothing is written.

    For those who have much to do before they save.
    """
    if format != "gguf":
        tokenizer._native.check_target(str(target), format)
        return
    from subgpt.tokenizer.gguf import tokenizer_entries

    tokenizer_entries(tokenizer, tokenizer.vocab_size, _gguf_file(target))


def _gguf_file(target: Path) -> Path:
    return target if target.suffix.lower() == ".gguf" else target / "tokenizer.gguf"
