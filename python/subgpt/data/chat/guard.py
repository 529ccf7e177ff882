"""Keeps messages from writing special tokens: a character that occurs nowhere breaks their names while it lasts.

A message that has ``<|im_end|>`` in it must not end the turn. Before a template is rendered, the guard is put into
every name of a special token in a message; after it, names that are whole are the template's, and the guard is taken
out again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

from subgpt.data.segments import Segment
from subgpt.errors import DataError


@dataclass(frozen=True)
class SpecialNames:
    """The names of a tokenizer's special tokens, ready to be looked for.

    Attributes:
        names: The names.
        pattern: Finds them, the longest first.
        beginnings: Every proper beginning of one.
        ends: Every proper end of one.
        longest: Characters of the longest.

    """

    names: tuple[str, ...]
    pattern: re.Pattern[str]
    beginnings: frozenset[str]
    ends: frozenset[str]
    longest: int

    @classmethod
    def of(cls, names: Collection[str]) -> SpecialNames:
        """Make ready to look for these names."""
        return _prepared(tuple(names))

    def guard(self, content: str, guard: str) -> str:
        """Break the names in a message, also those that its ends could complete.

        White space at the ends is left alone, since templates strip it.

        Raises:
            DataError: A special token of one character, which cannot be broken.

        >>> SpecialNames.of(["<|end|>"]).guard("a <|end|> b <|", "·")
        'a <·|end|> b <·|'

        """
        core = content.strip()
        if not self.names or not core:
            return content
        inner = core
        while self.pattern.search(inner):  # again, since names can overlap
            inner = self.pattern.sub(lambda match: _broken(match[0], guard), inner)
        if len(core) < self.longest and any(core in name for name in self.names):
            inner = guard + inner
        for size in range(1, self.longest):
            if inner[-size:] in self.beginnings:
                inner = inner[: len(inner) - size + 1] + guard + inner[len(inner) - size + 1 :]
            if inner[:size] in self.ends:
                inner = inner[: size - 1] + guard + inner[size - 1 :]
        start = content.index(core)
        return content[:start] + inner + content[start + len(core) :]

    def segments(self, text: str, trained: bool, guard: str) -> Iterator[Segment]:
        """Cut a rendered stretch, which is not empty, so that names from messages are in segments without markup."""
        pieces = [piece.replace(guard, "") for piece in self.pattern.split(text)]
        borders = list(accumulate(map(len, pieces), initial=0))
        bare = "".join(pieces)
        # Where the guard kept nothing apart, the tokenizer finds the same names, and their surroundings, by itself.
        if [match.span() for match in self.pattern.finditer(bare)] == list(pairwise(borders))[1::2]:
            yield Segment(bare, trained, markup=True)
            return
        for number, piece in enumerate(pieces):
            if piece:
                yield Segment(piece, trained, markup=number % 2 == 1)


def _broken(name: str, guard: str) -> str:
    if len(name) == 1:
        raise DataError(
            f"a message has {name!r}, which is a special token of one character, so the two cannot be told apart; "
            "remove it from the message"
        )
    return name[0] + guard + name[1:]


@lru_cache(maxsize=8)
def _prepared(names: tuple[str, ...]) -> SpecialNames:
    longest_first = sorted(names, key=len, reverse=True)
    return SpecialNames(
        names=names,
        pattern=re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})"),
        beginnings=frozenset(name[:size] for name in names for size in range(1, len(name))),
        ends=frozenset(name[size:] for name in names for size in range(1, len(name))),
        longest=max(map(len, names), default=0),
    )
