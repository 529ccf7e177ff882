"""Ids from the command line: of a text, or written out as numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from subgpt.cli.terminal import read_argument
from subgpt.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from subgpt.tokenizer import Tokenizer


def ids_of(tokenizer: "Tokenizer", text: str, allow_special: bool) -> "npt.NDArray[np.uint32]":
    """Encode `text`; special tokens in it are plain text unless they are allowed."""
    return tokenizer.encode(text, allowed_special="all") if allow_special else tokenizer.encode_ordinary(text)


def parse_ids(words: Sequence[str]) -> list[int]:
    """Read ids from arguments, separated by spaces or commas; a single `-` reads standard input.

    >>> parse_ids(["1", "2,3", "[4,", "5]"])
    [1, 2, 3, 4, 5]
    """
    text = read_argument("-") if list(words) == ["-"] else " ".join(words)
    return [_id(word) for word in text.translate(str.maketrans(",[]", "   ")).split()]


def _id(word: str) -> int:
    if not (word.isascii() and word.isdecimal()):
        raise DataError(
            f"{word!r} is not an id; give whole numbers, such as the output of: subgpt tokenizer encode"
        )
    return int(word)
