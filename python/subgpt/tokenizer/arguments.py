"""Checking what callers of the tokenizer pass."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from subgpt.errors import DtypeError, InvalidValueError, MissingFileError, TokenizerError
from subgpt.places import absent

if TYPE_CHECKING:
    from subgpt._core import SpecialRules

Specials: TypeAlias = 'Literal["all"] | Iterable[str]'

_ID_LIMIT = 2**32 - 1


def path_argument(path: str | os.PathLike[str]) -> str:
    """Give a path as str, with the home directory in place of ``~``."""
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        raise DtypeError(f"path must be str or a path, not {type(name).__name__}")
    return os.path.expanduser(name)  # noqa: PTH111 - a Path would drop a slash at the end, and more


def check_place(name: str) -> None:
    """Refuse what holds no tokenizer for sure, before its content is looked at.

    Raises:
        MissingFileError: There is nothing of that name.
        TokenizerError: It is a plain text, whose ending a file of merges may have as well.

    """
    path = Path(name)
    if path.is_dir():
        return
    if not path.exists():
        raise MissingFileError(
            absent(
                path,
                "give the directory or file of a tokenizer (subgpt tokenizer train makes one), or a run's",
            )
        )
    if path.suffix == ".txt" and not any(
        path.with_name(other).exists() for other in ("vocab.json", "encoder.json")
    ):
        raise TokenizerError(
            f"{path}: is no tokenizer, and as merges it needs vocab.json or encoder.json beside it; give the directory "
            "or file of a tokenizer (subgpt tokenizer train makes one)"
        )


def text_argument(what: str, value: str) -> str:
    """Refuse what is no str."""
    if not isinstance(value, str):
        raise DtypeError(f"{what} must be str, not {type(value).__name__}")
    return value


def names(what: str, values: Iterable[str]) -> list[str]:
    """Give an iterable of str as a list."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DtypeError(f"{what} must be an iterable of str, not {type(values).__name__} ({values!r})")
    listed = [text_argument(f"{what}[{i}]", value) for i, value in enumerate(values)]
    for name in listed:
        if has_surrogate(name):
            raise InvalidValueError(f"{what}: {name!r} contains a lone surrogate, which is no character")
    return listed


def special_rules(allowed: Specials, disallowed: Specials, errors: str) -> SpecialRules:
    """Give what a call allows of special tokens and text without an entry, as the core takes it."""

    def which(what: str, wanted: Specials) -> list[str] | None:
        return None if isinstance(wanted, str) and wanted == "all" else names(what, wanted)

    return (
        which("allowed_special", allowed),
        which("disallowed_special", disallowed),
        text_argument("errors", errors),
    )


def numbered(specials: Mapping[str, int] | Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """Give special tokens with their ids, as far as they have some."""
    ids = specials if isinstance(specials, Mapping) else {}
    for name in names("special_tokens", specials):
        yield name, optional_integer(f"special_tokens[{name!r}]", ids.get(name), 0, _ID_LIMIT)


def integer(what: str, value: int, least: int, most: int = 2**63 - 1) -> int:
    """Refuse what is no integer between `least` and `most`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise DtypeError(f"{what} must be int, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidValueError(f"{what} is {value}; it must be between {least} and {most}")
    return int(value)


def optional_integer(what: str, value: int | None, least: int, most: int = 2**63 - 1) -> int | None:
    """Do the same for what may be None."""
    return None if value is None else integer(what, value, least, most)


def has_surrogate(text: str) -> bool:
    """Tell whether a str has half a surrogate pair, which no UTF-8 has."""
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)
