"""What a report says, as plain data: everything here is a string, a number or a tuple of them.

The page and the plots read only these: they can be made from a live run, a run directory or a test.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Role = Literal["train", "validation", "other"]


@dataclass(frozen=True)
class Series:
    """One line of a loss plot: `losses[i]` in nats per token was seen at step `steps[i]`."""

    label: str
    steps: Sequence[int]
    losses: Sequence[float]
    role: Role = "train"

    def finite(self) -> "Series":
        """Leave out the steps whose loss is not a finite number."""
        kept = [(s, v) for s, v in zip(self.steps, self.losses, strict=True) if math.isfinite(v)]
        return replace(self, steps=[s for s, _ in kept], losses=[v for _, v in kept])


@dataclass(frozen=True)
class Panel:
    """One loss plot: a title and the lines in it."""

    title: str
    series: Sequence[Series]

    def drawable(self) -> "list[Series]":
        """Give the lines that have something to draw, without the losses that are not finite."""
        return [line for series in self.series if (line := series.finite()).losses]


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
    """A held-out loss in nats per token before and after fine-tuning."""

    data: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """After minus before: below zero is better."""
        return self.after - self.before


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
