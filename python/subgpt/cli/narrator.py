"""A quickstart told in the terminal: a numbered heading for each stage, what it found, what it made."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from subgpt.cli.distributions import candidate_lines
from subgpt.cli.pieces import Cell, coloured_rows
from subgpt.cli.progress import watching
from subgpt.cli.tables import changes_table
from subgpt.cli.terminal import harmless, out
from subgpt.quickstart.narrator import Narrator
from subgpt.report.facts import Answer, Candidate, LossChange, Piece, Sample
from subgpt.training.callbacks import Callback
from subgpt.units import duration
from subgpt.visible import show_text


class TerminalNarrator(Narrator):
    """Prints on standard output; progress goes to standard error."""

    def __init__(self) -> None:
        self._count = 0
        self._begin = time.monotonic()

    def stage(self, title: str) -> None:
        """Print the heading of a stage with the time that has passed."""
        self._count += 1
        passed = time.monotonic() - self._begin
        out().print()
        out().print(Text.assemble((f"{self._count}  {title}", "bold"), (f"   at {duration(passed)}", "dim")))

    def say(self, text: str) -> None:
        """Print one line."""
        _show(Text(harmless(text)))

    def pieces(self, pieces: Sequence[Piece]) -> None:
        """Print the pieces in colour with their ids."""
        out().print()
        cells = [Cell(show_text(piece.text), (str(piece.id),)) for piece in pieces]
        for row in coloured_rows(cells, min(out().width, 100) - 4):
            _show(row)

    def candidates(self, prompt: str, candidates: Sequence[Candidate]) -> None:
        """Print the candidates with bars."""
        self._heading(f"the {len(candidates)} most probable tokens after", show_text(prompt))
        for line in candidate_lines(candidates):
            _show(line)

    def samples(self, samples: Sequence[Sample]) -> None:
        """Print the samples, each prompt in bold."""
        for sample in samples:
            self._heading("a sample after", show_text(sample.prompt))
            text = Text.assemble((harmless(sample.prompt), "bold"), harmless(sample.text.rstrip()))
            _show(text)

    def answers(self, answers: Sequence[Answer]) -> None:
        """Print each question with the answers before and after."""
        self._heading("questions that were held out, answered before and after", "")
        for answer in answers:
            _show(Text(harmless(answer.question), style="bold"))
            rows = Table.grid(padding=(0, 2))
            rows.add_column(style="dim", no_wrap=True)
            rows.add_row("before", _one_line(answer.before or "(nothing)", "dim"))
            rows.add_row("after", _one_line(answer.after or "(nothing)", "green"))
            rows.add_row("documented", _one_line(answer.expected, ""))
            _show(rows)
            out().print()

    def losses(self, losses: Sequence[LossChange]) -> None:
        """Print the losses before and after."""
        _show(changes_table((row.data, row.before, row.after) for row in losses))
        out().print()

    def commands(self, commands: Sequence[tuple[str, str]]) -> None:
        """Print what to type next."""
        out().print()
        out().print(Text("Type next", style="bold"))
        for command, why in commands:
            out().print(Text(f"   # {why}", style="dim"))
            out().print(Text(f"   {command}", style="cyan"))  # whole, however long, to be copied

    @contextmanager
    def watching(self) -> Iterator[Sequence[Callback]]:
        """Give the bar, or lines where nobody watches."""
        with watching(brief=True) as callbacks:
            yield callbacks

    def _heading(self, text: str, subject: str) -> None:
        out().print()
        _show(Text.assemble((text, "dim"), " ", (subject, "bold")))


def _show(what: RenderableType) -> None:
    """Print indented, wrapped at the width of the terminal."""
    out().print(Padding(what, (0, 0, 0, 3), expand=False), soft_wrap=False)


def _one_line(text: str, style: str) -> Text:
    return Text(harmless(" ".join(text.split())), style=style)
