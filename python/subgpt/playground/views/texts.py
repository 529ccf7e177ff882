"""A text as tokenizers cut it: those of the models, those in a folder, and its characters and bytes."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.playground.limits import MAX_RUNS
from subgpt.report.tokens import TokenView, view_tokens
from subgpt.tokenizer import Segment, Token, Tokenizer

if TYPE_CHECKING:
    from subgpt.serving.models import Served

CHARACTERS, BYTES = "characters", "bytes"
"""Names of the two views that need no tokenizer."""

Opener = Callable[[], Tokenizer]


def characters_of(text: str) -> TokenView:
    """Cut a text into characters; each stands with its number in Unicode.

    >>> [(s.text, s.tokens[0].id) for s in characters_of("né").segments]
    [('n', 110), ('é', 233)]
    """
    segments = [Segment(c, (Token(ord(c), c.encode("utf-8", "replace")),)) for c in text]
    return TokenView(CHARACTERS, "Unicode, without a tokenizer", segments, _size(text))


def bytes_of(text: str) -> TokenView:
    """Cut a text into its bytes in UTF-8, with those of a character together.

    >>> [[t.id for t in s.tokens] for s in bytes_of("né").segments]
    [[110], [195, 169]]
    """
    segments = [
        Segment(c, tuple(Token(byte, bytes([byte])) for byte in c.encode("utf-8", "replace"))) for c in text
    ]
    return TokenView(BYTES, "UTF-8, without a tokenizer", segments, _size(text))


def view_of(name: str, openers: dict[str, Opener], text: str, *, special: bool) -> TokenView:
    """Cut `text` in the way called `name`. special: whether special tokens in it are recognised."""
    if name == CHARACTERS:
        return characters_of(text)
    if name == BYTES:
        return bytes_of(text)
    return view_tokens(name, openers[name](), text, allowed_special="all" if special else ())


def openers_of(served: "Iterable[Served]", runs: Path | None) -> dict[str, Opener]:
    """Name the tokenizers that can be looked at: the models', equal ones once, then all those under `runs`.

    Those of a folder are read when they are first used, and kept.
    """
    openers: dict[str, Opener] = {}
    known: set[str] = set()
    for one in served:
        if one.tokenizer.fingerprint not in known:
            known.add(one.tokenizer.fingerprint)
            openers[one.name] = _already(one.tokenizer)
    seen = {one.run.resolve() for one in served}
    for folder in folders_with(runs, "tokenizer.json")[:MAX_RUNS]:
        if folder.resolve() not in seen:
            name = _name(folder, runs)
            while name in openers:
                name += " (another)"
            openers[name] = _on_use(folder)
    return openers


def folders_with(runs: Path | None, file: str) -> list[Path]:
    """Find the folders at most two levels below `runs` that have `file`, `runs` itself among them, by name."""
    if runs is None:
        return []
    found = (
        path.parents[file.count("/")] for levels in ("", "*/", "*/*/") for path in runs.glob(levels + file)
    )
    return sorted(set(found))


def _name(folder: Path, runs: Path | None) -> str:
    return folder.name if runs is None or folder == runs else folder.relative_to(runs).as_posix()


def _already(tokenizer: Tokenizer) -> Opener:
    return lambda: tokenizer


def _on_use(folder: Path) -> Opener:
    kept: list[Tokenizer] = []

    def opened() -> Tokenizer:
        if not kept:
            kept.append(Tokenizer.load(folder))
        return kept[0]

    return opened


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
