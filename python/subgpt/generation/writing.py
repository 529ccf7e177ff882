"""`Writing`: one text while a model writes it, token by token."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

from subgpt.generation.beginning import Beginning
from subgpt.generation.config import GenerationConfig
from subgpt.generation.prompt import end_ids
from subgpt.generation.reading import Reading
from subgpt.generation.structured import Matcher

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

FinishReason: TypeAlias = Literal["stop", "length"]
Found: TypeAlias = tuple[float, list[tuple[int, float]]]


class Writing:
    """What a model writes after a prompt: iterate over its pieces, then ask what they were made of.

    The errors of its options come when it is made, not with the first piece.

    Attributes:
        ids: The tokens that the text is made of, without a healed one and one that ended it. Those that come
            after a stop text began are not among them.
        found: For each of `ids` its log probability and the `top` most probable ids with theirs; empty if
            `top` is None.
        finish_reason: "stop" at an end of text, a stop text or the end of what a grammar lets; "length" at
            max_new_tokens.

    """

    def __init__(
        self,
        start: Beginning,
        tokenizer: "Tokenizer",
        settings: GenerationConfig,
        top: int | None = None,
    ) -> None:
        self.ids: list[int] = []
        self.found: list[Found] = []
        self.finish_reason: FinishReason = "length"
        self._start, self._top = start, top
        self._reading = Reading(start.decoder, settings.stop, tokenizer.vocab_size)
        self._settings, self._native = settings, settings.to_native(tokenizer)
        self._ends = frozenset(end_ids(tokenizer, settings))
        self._matcher = None if settings.structure is None else Matcher(tokenizer, settings)

    def __iter__(self) -> Iterator[str]:
        """Write the text, once."""
        if piece := self._reading.begin(self._start.text):
            yield piece
        for token in () if self._reading.done else self._tokens():
            if piece := self._reading.push(token):
                yield piece
            if self._reading.done:
                break
        else:
            if piece := self._reading.finish():
                yield piece
        if self._reading.done:
            self.finish_reason = "stop"
            del self.ids[self._reading.kept :], self.found[self._reading.kept :]

    def _tokens(self) -> Iterator[int]:
        """Draw tokens and feed them back, up to one that ends the text."""
        session, matcher = self._start.session, self._matcher
        for _ in range(self._settings.max_new_tokens - self._start.written):
            if matcher is not None and matcher.is_done:
                break
            token = session.sample(self._native, None if matcher is None else matcher.mask())
            if token in self._ends:
                self.finish_reason = "stop"
                return
            if matcher is not None:
                matcher.push(token)
            if self._top is not None:
                self.found.append(session.logprobs(token, self._top))
            session.append([token])
            self.ids.append(token)
            yield token
        if matcher is not None and matcher.is_done:
            self.finish_reason = "stop"
