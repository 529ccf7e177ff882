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


def _means(pattern: str, name: str) -> bool:
    block = _BLOCK.search(name)
    if numbers := _NUMBERS.fullmatch(pattern):
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        return block is not None and first <= int(block[1]) <= last
    if pattern == EMBEDDINGS:
        return block is None and re.search(r"\.(?:wte|wpe|embed_\w+)\.", name) is not None
    if pattern == HEAD:
        return name == "lm_head.weight"
    return fnmatchcase(name, pattern)
