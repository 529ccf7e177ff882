"""Which weights are frozen, in words: numbers of blocks, parts of a model, patterns of names."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

EMBEDDINGS, HEAD = "embeddings", "head"
_BLOCK = re.compile(r"\.(?:h|layers)\.(\d+)\.")
_NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")


def frozen_names(names: Sequence[str], patterns: str | Iterable[str]) -> set[str]:
    """Give those of a model's tensor `names` that `patterns` mean, of which there may be one.

    A pattern is the number of a block or two of them ("3", "0-5", both included), "embeddings" (of tokens and
    positions), "head" (the output projection, where it has weights of its own), or a name with * and ?.
    Raises ConfigError for one that means nothing.

    >>> names = ["transformer.wte.weight", "transformer.h.0.ln_1.weight", "transformer.h.1.ln_1.weight"]
    >>> sorted(frozen_names(names, ["embeddings", "1"]))
    ['transformer.h.1.ln_1.weight', 'transformer.wte.weight']
    """
    frozen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = {name for name in names if _means(pattern, name)}
        if not found:
            known = [EMBEDDINGS, HEAD, *names]
            raise ConfigError(
                f"freeze: {pattern!r} means no weight of this model; give numbers of blocks (0-5), {EMBEDDINGS}, "
                f"{HEAD} or names with *; {did_you_mean(pattern, known)}"
            )
        frozen |= found
    return frozen


def same_in_all_blocks(names: Sequence[str], patterns: Sequence[str], blocks: int) -> list[str]:
    """Give those of `patterns` that mean the same weights of each of as many `blocks`.

    names: those of a model of one block. Raises ConfigError for one that means nothing in a model of all of them.

    >>> same_in_all_blocks(["transformer.wte.weight", "transformer.h.0.ln_1.weight"], ["0-3", "4-7", "*.ln_1.*"], 8)
    ['*.ln_1.*']
    """
    of_block = [name for name in names if block_of(name) is not None]
    every = [name.replace(".0.", f".{i}.", 1) for i in range(blocks) for name in of_block]
    frozen_names([*names, *every], patterns)
    width = len(of_block)

    def same(pattern: str) -> bool:
        meant = [_means(pattern, name) for name in every]
        return all(meant[i] == meant[i % width] for i in range(len(meant)))

    return [pattern for pattern in patterns if same(pattern)]


def block_of(name: str) -> int | None:
    """Give the number of the block that a tensor is of; None outside of the blocks."""
    found = _BLOCK.search(name)
    return None if found is None else int(found[1])


def _means(pattern: str, name: str) -> bool:
    block = block_of(name)
    if numbers := _NUMBERS.fullmatch(pattern):
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        return block is not None and first <= block <= last
    if pattern == EMBEDDINGS:
        return block is None and re.search(r"\.(?:wte|wpe|embed_\w+)\.", name) is not None
    if pattern == HEAD:
        return name == "lm_head.weight"
    return fnmatchcase(name, pattern)
