"""A text as tokenizers cut it, as a page: coloured tokens that tell their id and bytes, one tokenizer under another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subgpt.report.page import environment
from subgpt.tokenizer.segments import Segment, segment

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.arguments import Specials


@dataclass(frozen=True)
class TokenView:
    """What one tokenizer makes of a text.

    Attributes:
        name: What the reader knows the tokenizer by.
        about: Its level and size in a few words.
        segments: The text, cut.
        size: Bytes of the text.

    """

    name: str
    about: str
    segments: Sequence[Segment]
    size: int

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return sum(len(segment.tokens) for segment in self.segments)

    @property
    def summary(self) -> str:
        """Tokens, bytes, bytes per token, in one line."""
        rate = f", {self.size / self.count:.2f} bytes per token" if self.count else ""
        return f"{_number(self.count, 'token')}, {_number(self.size, 'byte')}{rate}"


def view_tokens(name: str, tokenizer: Tokenizer, text: str, *, allowed_special: Specials = ()) -> TokenView:
    """Cut `text` with `tokenizer`, which the reader knows as `name`; see `subgpt.tokenizer.segment`."""
    return TokenView(
        name,
        f"{tokenizer.level}, {tokenizer.vocab_size:,} tokens",
        segment(tokenizer, text, allowed_special=allowed_special),
        len(text.encode("utf-8", errors="surrogatepass")),
    )


def render_tokens(views: Sequence[TokenView], *, title: str = "How tokenizers cut a text") -> str:
    """Write the views as HTML that needs no other file; it runs no script, and every text in it is escaped.

    A token says its id and bytes under the pointer or the keyboard's focus, and all stand in a table as well.
    """
    return environment().get_template("tokens.html.j2").render(views=views, title=title)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
