"""`Reading`: ids become text one by one, up to the first stop text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from subgpt.generation.stops import StopGuard

if TYPE_CHECKING:
    from subgpt.tokenizer.results import DecodeStream


class Reading:
    """The text of the ids that are pushed, cut where the first of `stops` begins.

    Ids from `vocab_size` on, which a model may have more than its tokenizer, stand for nothing.
    """

    def __init__(self, decoder: "DecodeStream", stops: Sequence[str], vocab_size: int) -> None:
        self._decoder, self._guard, self._vocab_size = decoder, StopGuard(stops), vocab_size
        self._starts: list[int] = []
        self._decoded = self._given = 0

    @property
    def done(self) -> bool:
        """Whether a stop text came."""
        return self._guard.done

    @property
    def kept(self) -> int:
        """How many of the ids begin before the stop text, or how many there are without one."""
        return sum(start < self._given for start in self._starts) if self.done else len(self._starts)

    def begin(self, text: str) -> str:
        """Put a text before that of the ids; give what of it is certain."""
        return self._give(text)

    def push(self, id: int) -> str:
        """Add an id; give the text that is now certain."""
        self._starts.append(self._decoded)
        return self._give(self._decoder.push(id) if id < self._vocab_size else "")

    def finish(self) -> str:
        """End the text: give what was held back."""
        return self._give(self._decoder.flush()) + self._guard.flush()

    def _give(self, piece: str) -> str:
        self._decoded += len(piece)
        certain = self._guard.push(piece)
        self._given += len(certain)
        return certain
