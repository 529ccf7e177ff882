"""What an example is made of before it becomes ids: stretches of text, trained or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from subgpt.errors import ConfigError

LossOn: TypeAlias = Literal["answers", "all", "last"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an example.

    Attributes:
        text: What is written.
        trained: The model learns to write it.
        markup: Names of special tokens in it stand for these tokens; elsewhere they are ordinary text.
        ends: The end of text follows.

    """

    text: str
    trained: bool
    markup: bool = field(default=False, repr=False)
    ends: bool = field(default=False, repr=False)


def check_loss_on(loss_on: str) -> None:
    """Refuse any name but those there are.

    >>> check_loss_on("questions")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: loss_on must be 'answers', 'all' or 'last', not 'questions'
    """
    if loss_on not in get_args(LossOn):
        raise ConfigError(f"loss_on must be 'answers', 'all' or 'last', not {loss_on!r}")
