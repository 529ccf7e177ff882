"""What decides about a prepared data set, beside its sources and the tokenizer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from subgpt.data.decoding import Errors, check_errors
from subgpt.data.documents import SEPARATOR, check_separator
from subgpt.data.split import check_fraction
from subgpt.errors import ConfigError

SHARD_TOKENS = 100_000_000


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """Options of a preparation, checked; the same sources and options give the same bytes.

    Attributes:
        val_fraction: Share of the documents that is kept for validation, in [0, 1).
        seed: Decides which.
        shard_tokens: Ids in a shard, at most; a longer document has one to itself.
        exact_duplicates: Whether documents that were there before are removed.
        near_duplicates: Similarity (Jaccard, of runs of five words) from which on a document counts as one that was
            there before, in (0, 1]; None: not looked for.
        text_field: The key, or column, of the text in rows.
        errors: Bytes that are no text: ``"strict"`` refuses, ``"replace"`` puts U+FFFD.
        bad_rows: Rows of JSON Lines that are broken, and rows without a text: ``"refuse"`` or ``"skip"`` and count.
        separator: Splits text files into documents; None for never.

    Raises:
        ConfigError: One of them cannot be.

    >>> PrepareOptions(near_duplicates=1.5)
    Traceback (most recent call last):
    subgpt.errors.ConfigError: near_duplicates must be above 0 and at most 1, not 1.5; 0.8 is usual

    """

    val_fraction: float = 0.01
    seed: int = 0
    shard_tokens: int = SHARD_TOKENS
    exact_duplicates: bool = True
    near_duplicates: float | None = None
    text_field: str = "text"
    errors: Errors = "strict"
    bad_rows: Literal["refuse", "skip"] = "refuse"
    separator: str | None = SEPARATOR

    def __post_init__(self) -> None:
        check_fraction(self.val_fraction)
        check_errors(self.errors)
        _check_whole("seed", self.seed, 0)
        _check_whole("shard_tokens", self.shard_tokens, 1)
        near = self.near_duplicates
        if near is not None and (
            isinstance(near, bool) or not isinstance(near, int | float) or not 0 < near <= 1
        ):
            raise ConfigError(f"near_duplicates must be above 0 and at most 1, not {near!r}; 0.8 is usual")
        if self.bad_rows not in ("refuse", "skip"):
            raise ConfigError(f"bad_rows must be 'refuse' or 'skip', not {self.bad_rows!r}")
        if not isinstance(self.text_field, str) or not self.text_field:
            raise ConfigError(f"text_field must be the name of a field, not {self.text_field!r}")
        check_separator(self.separator)

    def to_dict(self) -> dict[str, Any]:
        """Give every option as a plain value."""
        return asdict(self)


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")
