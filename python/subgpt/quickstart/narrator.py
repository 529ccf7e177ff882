"""Who tells what a quickstart does. This one is silent; the command line brings one that speaks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from subgpt.report.facts import Answer, Candidate, LossChange, Piece, Sample
from subgpt.training.callbacks import Callback


class Narrator:
    """Override what is to be heard."""

    def stage(self, title: str) -> None:
        """Say that a stage begins."""

    def say(self, text: str) -> None:
        """Say one line about the stage."""

    def pieces(self, pieces: Sequence[Piece]) -> None:
        """Show how the tokenizer cuts its example."""

    def candidates(self, prompt: str, candidates: Sequence[Candidate]) -> None:
        """Show the most probable next tokens."""

    def samples(self, samples: Sequence[Sample]) -> None:
        """Show what the model writes."""

    def answers(self, answers: Sequence[Answer]) -> None:
        """Show the questions with the answers before and after."""

    def losses(self, losses: Sequence[LossChange]) -> None:
        """Show the held-out losses before and after."""

    def commands(self, commands: Sequence[tuple[str, str]]) -> None:
        """Show what to type next."""

    @contextmanager
    def watching(self) -> Iterator[Sequence[Callback]]:
        """Give the callbacks that watch a training run."""
        yield ()
