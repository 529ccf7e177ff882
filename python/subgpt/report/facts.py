"""What a report says, as plain data: everything here is a string, a number, or made of them.

The page and the plots read only these: they can be made from a live run, a run directory or a test.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from subgpt.evaluation.results import ProbeResult
from subgpt.training.plot import Panel


@dataclass(frozen=True)
class Piece:
    """One token of the tokenizer example: the text it stands for and its id."""

    text: str
    id: int


@dataclass(frozen=True)
class Candidate:
    """One possible next token and its probability in [0, 1]."""

    text: str
    id: int
    probability: float


@dataclass(frozen=True)
class Stage:
    """One row of the table of stages: its name, what it did, how long it took and where its result lies."""

    name: str
    what: str
    seconds: float
    path: str


@dataclass(frozen=True)
class Sample:
    """A prompt and what the model wrote after it."""

    prompt: str
    text: str


@dataclass(frozen=True)
class Answer:
    """One question: the documented answer, and the model's answer before and after fine-tuning."""

    question: str
    expected: str
    before: str
    after: str


@dataclass(frozen=True)
class LossChange:
    """A held-out loss in nats before and after fine-tuning."""

    data: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """After minus before: below zero is better."""
        return self.after - self.before


@dataclass(frozen=True)
class ProbeScore:
    """What a probe showed before and after fine-tuning; None where it was not asked."""

    name: str
    before: ProbeResult | None
    after: ProbeResult | None


@dataclass(frozen=True)
class Report:
    """Everything that the page shows, in the order in which it shows it."""

    title: str
    summary: str
    facts: Sequence[tuple[str, str]]
    stages: Sequence[Stage]
    panels: Sequence[Panel]
    pieces: Sequence[Piece]
    prompt: str
    candidates: Sequence[Candidate]
    samples: Sequence[Sample]
    answers: Sequence[Answer]
    losses: Sequence[LossChange]
    environment: Sequence[tuple[str, str]]
    commands: Sequence[tuple[str, str]]
    probes: Sequence[ProbeScore] = ()
    scale: str = "nats per token"
