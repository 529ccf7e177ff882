"""What probes showed: how much was right, and some of what was not."""

from dataclasses import dataclass

from subgpt.evaluation.matching import Match

_NAMES: dict[str, str] = {"exact": "exact match", "number": "right number", "tokens": "tokens foretold"}


@dataclass(frozen=True)
class Miss:
    """A question that was not answered as expected."""

    question: str
    expected: str
    answered: str


@dataclass(frozen=True)
class ProbeResult:
    """What a probe showed.

    match: how answers were compared. correct, total: of questions, with "tokens" of the answers' tokens. misses: the
    first few questions that were missed. seconds: how long it took.
    """

    match: Match
    correct: int
    total: int
    misses: tuple[Miss, ...] = ()
    seconds: float = 0.0

    @property
    def accuracy(self) -> float:
        """The share that was right, in [0, 1]."""
        return self.correct / self.total

    def __str__(self) -> str:
        return f"{_NAMES[self.match]} {self.correct:,} of {self.total:,} ({100 * self.accuracy:.1f} %)"


@dataclass(frozen=True)
class ProbeChange:
    """What a probe showed before and after a run; None where it was not measured."""

    before: ProbeResult | None
    after: ProbeResult | None = None
