"""Which form a conversation gets: what was asked for, the model's own template, ChatML, or the plain form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from subgpt.data.chat.needs import missing_special_tokens
from subgpt.data.chat.template import CHATML, ChatTemplate
from subgpt.places import expanded

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

AUTO, PLAIN = "auto", "plain"


def choose_template(
    asked: str | ChatTemplate, tokenizer: Tokenizer, own: ChatTemplate | None = None
) -> ChatTemplate | None:
    """Choose how conversations are written.

    Args:
        asked: ``"auto"``: the model's own template, else ChatML where the tokenizer has its two special tokens,
            else the plain form; ``"chatml"``; ``"plain"``; a template; or a file or model directory with one.
        tokenizer: The model's.
        own: The model's template, if it has one.

    Returns:
        A template, or None for the plain form (``Question: …``, ``Answer: …``).

    Raises:
        MissingFileError, ConfigError: As for `ChatTemplate.load`.

    """
    if isinstance(asked, ChatTemplate):
        return asked
    if asked == AUTO:
        return own or (None if missing_special_tokens(CHATML, tokenizer) else CHATML)
    if asked in (PLAIN, CHATML.name):
        return None if asked == PLAIN else CHATML
    return ChatTemplate.load(asked)


def absolute_choice(asked: str) -> str:
    """Make a file or directory that was asked for independent of the working directory; names stay as they are.

    >>> absolute_choice("chatml")
    'chatml'
    """
    return asked if asked in (AUTO, PLAIN, CHATML.name) else str(expanded(asked).resolve())
