"""The tab *Write*: a text goes on, as it is written, and how sure the model was of it."""

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nicegui import ui

from subgpt.errors import SubgptError
from subgpt.playground.limits import MAX_TEXT, cut
from subgpt.playground.options import DRAW, LENGTH, MORE, TEXTS, OptionPanel
from subgpt.playground.parts import button, card, copy, enable, html, rendered, text, text_area
from subgpt.playground.views.surety import sure_pieces
from subgpt.playground.visit import Visit
from subgpt.playground.working import Notice
from subgpt.playground.writing import Writer

if TYPE_CHECKING:
    from subgpt.generation.job import Job
    from subgpt.serving.models import Served

EXAMPLE = "Once upon a time, there was a little"
_OTHERS = 4
"""Tokens that the model would have said instead, for each that it wrote."""


class Write:
    """A prompt, what the model writes after it, and the options."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._written = ""
        self._ended: tuple[Served, Job] | None = None
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"), card("Write on", "The model goes on from your text."):
                self._prompt = text_area("Your text", EXAMPLE, rows=4)
                self._prompt.props("autofocus data-enter=ctrl")
                self._notice = Notice()
                with ui.element("div").classes("strip"):
                    self._writer = Writer("Write", self._start, self._notice)
                    self._more = button("Go on", self._go_on, hint="Go on from what was written")
                    self._copy = button("Copy", self._take_along, icon="copy", hint="Copy what was written")
                    text("Ctrl+Enter", "kbd")
                    self._writer.add_meter()
                self._build_paper()
            self._panel = option_cards(TEXTS, visit.max_tokens)
        self._enable()

    def _build_paper(self) -> None:
        paper = ui.element("div").classes("paper").props("tabindex=0 role=region")
        paper.props["aria-label"] = "What was written"
        with paper:
            with ui.element("div").classes("written") as self._plain:
                self._begun = ui.label().classes("begun")
                self._new = ui.label().classes("new")
            self._sure = html().classes("written")
        self._shows_sure = ui.checkbox("mark what surprised the model", on_change=self._show_sure)
        self._shows_sure.props("dense")
        self._show_sure()

    async def _start(self) -> None:
        if self._writer.is_running:
            return
        prompt, served = cut(self._prompt.value), self._visit.chosen
        try:
            options = self._panel.options()
        except SubgptError as error:
            self._notice.show(error)
            return
        seed = options.setdefault("seed", secrets.randbits(32))
        self._begun.text, self._ended = prompt, None
        self._show("")
        self._show_sure()
        ended = await self._writer.write(
            lambda: served.engine.submit(prompt, logprobs=_OTHERS, **options), self._show, f"seed {seed}"
        )
        if not self._prompt.client.is_deleted:
            self._ended = None if ended is None else (served, ended[1])
            self._show_sure()
            self._enable()

    def _show(self, written: str) -> None:
        self._written = self._new.text = written
        self._enable()

    def _show_sure(self) -> None:
        """Colour a text that has ended by how sure the model was of it, if that is asked for."""
        if coloured := self._ended is not None and bool(self._shows_sure.value):
            assert self._ended is not None
            served, job = self._ended
            pieces = sure_pieces(served.tokenizer, job.ids, job.found)
            length = sum(len(piece.text) for piece in pieces)
            before = self._written[: max(0, len(self._written) - length)]  # the rest of a healed token
            prompt = self._begun.text
            self._sure.set_content(rendered("sure.html.j2", prompt=prompt, before=before, pieces=pieces))
        self._sure.set_visibility(coloured)
        self._plain.set_visibility(not coloured)

    def _enable(self) -> None:
        done = bool(self._written) and not self._writer.is_running
        enable(self._more, done)
        enable(self._copy, done)

    async def _go_on(self) -> None:
        self._prompt.value = (self._begun.text + self._written)[-MAX_TEXT:]  # the newest is what goes on
        await self._start()

    async def _take_along(self) -> None:
        await copy(self._begun.text + self._written)


def option_cards(texts: Iterable[str], max_tokens: int) -> OptionPanel:
    """Show all options of sampling, the rarer ones folded away."""
    with card("Sampling"):
        panel = OptionPanel(max_tokens)
        panel.add(*DRAW, *LENGTH)
        with ui.element("details").classes("more"):
            text("More rules", "summary")
            panel.add(*MORE)
            panel.add_texts(*texts)
        button("Reset", panel.reset, icon="reset", hint="Put the numbers back")
    return panel


def write_tab(visit: Visit) -> None:
    """Show how a text goes on."""
    Write(visit)
