"""The tab *Next token*: what may follow a text, what the rules of sampling make of that, the text token by token."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nicegui import ui

from subgpt.errors import SubgptError
from subgpt.playground.limits import cut
from subgpt.playground.options import DRAW, OptionPanel
from subgpt.playground.parts import button, card, enable, html, rendered, text, text_area
from subgpt.playground.views.bars import SHOWN, Bars, Place, ids_of, piece_of, text_of
from subgpt.playground.visit import Visit
from subgpt.playground.working import Latest, Notice

if TYPE_CHECKING:
    from subgpt.serving.models import Served

EXAMPLE = "Once upon a time, there was a little"
_TAIL = 40
"""Tokens of the text that are shown as such."""


class NextToken:
    """The text as ids, how it came there, and what may follow.

    What was clicked or drawn stays the token that it was until the text is typed in again: encoding the text anew
    could cut it elsewhere.
    """

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._typed: str | None = EXAMPLE  # None: the ids count
        self._ids: list[int] = []
        self._shown_ids: list[int] = []
        self._is_drawing = False
        self._history: list[tuple[str | None, list[int]]] = []
        self._place: tuple[Served, Place] | None = None
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"):
                self._build_text()
                self._notice = Notice()
                self._build_bars()
            with card(
                "Rules of sampling", "They reshape what is drawn from. The model itself stays as it is."
            ):
                self._panel = OptionPanel(visit.max_tokens, self._ask)
                self._panel.add(*DRAW)
                button("Reset", self._panel.reset, icon="reset")
        self._latest = Latest(self._work, self._show, self._notice, self._bars)
        visit.on_model(self._changed_model)
        visit.on_tab(self._ask)

    def _build_text(self) -> None:
        with card(
            "What comes next?",
            "The model gives every token a probability. Click one to go on with it.",
        ):
            self._field = text_area("Text so far", EXAMPLE, self._type, rows=3)
            self._tail = html().classes("chips small").props("aria-hidden=true")
            with ui.element("div").classes("strip"):
                run = button(
                    "Sample one", self._draw, kind="primary", icon="dice", hint="Draw one token (Ctrl+Enter)"
                )
                run.props["data-run"] = ""
                self._undo = button("Undo", self._step_back, icon="undo", hint="Take the last token back")

    def _build_bars(self) -> None:
        with ui.element("section").classes("card") as self._bars:
            text("The most probable tokens", "h2")
            self._summary = ui.label().classes("note")
            with ui.element("div").classes("bar-head").props("aria-hidden=true"):
                html('<i class="key now"></i> drawn from <i class="key was"></i> the model\'s own', "span")
            self._rows: list[tuple[ui.element, ui.html]] = []
            self._shown: list[int | None] = [None] * SHOWN
            for i in range(SHOWN):
                with ui.element("button").classes("bar") as row:
                    content = html("&nbsp;", "span").classes("bar-line")
                row.props["type"] = "button"
                row.on("click", lambda _, i=i: self._append(i), [])
                self._rows.append((row, content))
            with ui.element("div").classes("bar rest"):
                self._rest = html("&nbsp;", "span").classes("bar-line")

    def _type(self, event: Any) -> None:
        typed = event.value or ""
        if typed != self._text():  # what clicks and draws have put there stays, however long it is
            self._typed, self._history = cut(typed), []
            self._ask()

    def _text(self) -> str:
        if self._typed is not None:
            return self._typed
        return text_of(self._visit.chosen.tokenizer, self._ids)

    def _changed_model(self) -> None:
        self._typed, self._history = self._text() if self._typed is None else self._typed, []
        self._ask()

    def _ask(self) -> None:
        enable(self._undo, bool(self._history))
        if self._visit.tab != "next":
            return
        try:
            options = self._panel.options()
        except SubgptError as error:
            self._notice.show(error)
            return
        self._latest.ask(self._visit.chosen, self._typed, list(self._ids), options)

    def _work(
        self, served: "Served", typed: str | None, ids: list[int], options: dict[str, Any]
    ) -> tuple[Place, Bars, Sequence[tuple[str, int]]]:
        place = self._place_of(served, typed, ids)
        tail = [(piece_of(served.tokenizer, id), id) for id in place.ids[-_TAIL:].tolist()]
        return place, place.bars(options), tail

    def _place_of(self, served: "Served", typed: str | None, ids: list[int]) -> Place:
        """Ask the model, unless it was asked for these ids last."""
        ids = ids if typed is None else ids_of(served.tokenizer, typed)
        known = self._place
        if known is None or known[0] is not served or known[1].ids.tolist() != ids:
            known = self._place = (served, Place(served.model, served.tokenizer, ids))
        return known[1]

    def _show(self, found: tuple[Place, Bars, Sequence[tuple[str, int]]]) -> None:
        place, bars, tail = found
        self._shown_ids = place.ids.tolist()
        self._summary.text = bars.summary
        self._tail.set_content(rendered("tail.html.j2", pieces=tail, more=len(place.ids) > len(tail)))
        *best, rest = bars.bars
        for i, (row, content) in enumerate(self._rows):
            bar = best[i] if i < len(best) else None
            self._shown[i] = None if bar is None or self._latest.is_behind else bar.id
            content.set_content("&nbsp;" if bar is None else rendered("bar.html.j2", bar=bar, top=bars.top))
            enable(row, bar is not None)
        self._rest.set_content(rendered("bar.html.j2", bar=rest, top=bars.top))

    def _append(self, i: int) -> None:
        """Go on with the token of a bar; until the next bars are there, a second click means nothing."""
        token = self._shown[i]
        if token is not None:
            self._shown = [None] * SHOWN
            self._go_on(self._shown_ids, token)

    async def _draw(self) -> None:
        """Draw a token after the text as it is now, which may not be on show yet."""
        if self._is_drawing:
            return
        self._is_drawing, client = True, ui.context.client
        try:
            options = self._panel.options()
            place = await asyncio.to_thread(self._place_of, self._visit.chosen, self._typed, list(self._ids))
            if not client.is_deleted:
                self._go_on(place.ids.tolist(), place.draw(options, secrets.randbits(32)))
        except Exception as error:  # the rules may leave no token
            if not client.is_deleted:
                self._notice.show(error)
        finally:
            self._is_drawing = False

    def _go_on(self, ids: list[int], token: int) -> None:
        self._history.append((self._typed, self._ids))
        self._typed, self._ids = None, [*ids, token]
        self._field.value = self._text()
        self._ask()

    def _step_back(self) -> None:
        if self._history:
            self._typed, self._ids = self._history.pop()
            self._field.value = self._text()
            self._ask()


def next_token_tab(visit: Visit) -> None:
    """Show what a model expects after a text."""
    NextToken(visit)
