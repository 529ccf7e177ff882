"""`Writing`: one text while a model writes it, token by token."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from subgpt.errors import ConfigError
from subgpt.generation.beginning import Beginning
from subgpt.generation.config import GenerationConfig
from subgpt.generation.prompt import end_ids
from subgpt.generation.reading import Reading
from subgpt.generation.speculation import speculate
from subgpt.generation.structured import Matcher

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

FinishReason: TypeAlias = Literal["stop", "length"]
Found: TypeAlias = tuple[float, list[tuple[int, float]]]


def check_logprobs(logprobs: int | None, owner: str) -> None:
    """Raise ConfigError if `logprobs` is no number of tokens to list."""
    if logprobs is not None and (isinstance(logprobs, bool) or not isinstance(logprobs, int) or logprobs < 0):
        raise ConfigError(
            f"{owner}: logprobs = {logprobs!r}; give the number of most probable tokens to list, from 0 on, or None"
        )


class Writing:
    """What a model writes after a prompt: iterate over its pieces, then ask what they were made of.

    Who draws the tokens elsewhere, as an engine does for many texts at once, calls `begin` once and then, until the
    text is `done`, draws a token by `native` and `mask()`, gives it to `push` and feeds it back to the session.

    assistant: a model that guesses what comes, so that several tokens cost one pass. matcher: a fresh one for what
    `settings` want of the text, where somebody has made it; it is used up.

    The errors of its options come when it is made, not with the first piece.

    Attributes:
        session: What the model has read.
        native: The sampler's options, as JSON.
        ids: The tokens that the text is made of, without a healed one and one that ended it. Those that come
            after a stop text began are not among them.
        found: For each of `ids` its log probability and the `top` most probable ids with theirs; empty if
            `top` is None.
        ended_by: The id that ended the text, with what is found of it (None if `top` is None); None if none did.
        drawn: How many tokens were drawn, also those that are not among `ids`.
        done: Whether the text has ended.
        finish_reason: "stop" at an end of text, a stop text or the end of what a grammar lets; "length" at
            max_new_tokens.

    """

    def __init__(
        self,
        start: Beginning,
        tokenizer: "Tokenizer",
        settings: GenerationConfig,
        top: int | None = None,
        assistant: "GPT | None" = None,
        matcher: Matcher | None = None,
    ) -> None:
        self.session = start.session
        speculate(self.session, settings, assistant)
        self.native = settings.to_native(tokenizer)
        self.ids: list[int] = []
        self.found: list[Found] = []
        self.ended_by: tuple[int, Found | None] | None = None
        self.drawn = 0
        self.done = False
        self.finish_reason: FinishReason = "length"
        self._text, self._top = start.text, top
        self._left = settings.max_new_tokens - start.written
        self._reading = Reading(start.decoder, settings.stop, tokenizer.vocab_size)
        self._ends = frozenset(end_ids(tokenizer, settings))
        if matcher is None and settings.structure is not None:
            matcher = Matcher(tokenizer, settings)
        self._matcher = matcher

    def __iter__(self) -> Iterator[str]:
        """Write the text, once."""
        if piece := self.begin():
            yield piece
        while not self.done:
            token = self.session.sample(self.native, self.mask())
            piece = self.push(token)
            if not self.done:
                self.session.append([token])
            if piece:
                yield piece

    def begin(self) -> str:
        """Give what comes before the first token."""
        piece = self._reading.begin(self._text)
        return piece if self._reading_ended() else piece + self._end_where_due()

    def mask(self) -> bytes | None:
        """Give a bit for every id, set where it may come next; None: any may."""
        return None if self._matcher is None else self._matcher.mask()

    def push(self, token: int) -> str:
        """Go on with a token that the session has not read yet; give the text that is now certain."""
        self.drawn += 1
        found = None if self._top is None else self.session.logprobs(token, self._top)
        if token in self._ends:
            self.ended_by = token, found
            return self._end("stop")
        if self._matcher is not None:
            self._matcher.push(token)
        if found is not None:
            self.found.append(found)
        self.ids.append(token)
        self._left -= 1
        piece = self._reading.push(token)
        return piece if self._reading_ended() else piece + self._end_where_due()

    def _end_where_due(self) -> str:
        if self._matcher is not None and self._matcher.is_done:
            return self._end("stop")
        return "" if self._left > 0 else self._end("length")

    def _end(self, reason: FinishReason) -> str:
        self.done, self.finish_reason = True, reason
        piece = self._reading.finish()
        self._reading_ended()  # a stop text may be what was held back
        return piece

    def _reading_ended(self) -> bool:
        """Whether a stop text came; leaves out the tokens behind it."""
        if self._reading.done:
            self.done, self.finish_reason = True, "stop"
            del self.ids[self._reading.kept :], self.found[self._reading.kept :]
        return self._reading.done
