"""`StopGuard`: text that is let through until a stop text comes, however that is split over tokens."""

from collections.abc import Sequence


class StopGuard:
    """Lets text through up to the first stop text, holding back what may turn out to be the beginning of one.

    >>> guard = StopGuard(["END"])
    >>> [guard.push(piece) for piece in ("one E", "N", "tEN", "D more")], guard.done
    (['one ', '', 'ENt', ''], True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.done = False
        self._held = ""

    def push(self, piece: str) -> str:
        """Give the text that is certain after `piece`; empty once a stop text was met."""
        if self.done:
            return ""
        text = self._held + piece
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.done, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Give what was held back and, as the text has ended, is no stop text after all."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Measure the longest proper beginning of `stop` that `text` ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
