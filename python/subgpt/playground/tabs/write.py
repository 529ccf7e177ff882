"""The tab *Write*: a text goes on, as it is written."""

import secrets

from nicegui import ui

from subgpt.playground.limits import cut
from subgpt.playground.options import DRAW, LENGTH, MORE, TEXTS, OptionPanel
from subgpt.playground.parts import button, card, enable, text, text_area
from subgpt.playground.visit import Visit
from subgpt.playground.working import Notice
from subgpt.playground.writing import Writer

EXAMPLE = "Once upon a time, there was a little"


class Write:
    """A prompt, what the model writes after it, and the options."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._written = ""
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"), card("Write on", "The model goes on from your text."):
                self._prompt = text_area("Your text", EXAMPLE, rows=4)
                self._prompt.props("autofocus data-enter=ctrl")
                self._notice = Notice()
                with ui.element("div").classes("row"):
                    self._writer = Writer("Write", self._start, self._notice)
                    self._more = button(
                        "Go on", self._go_on, hint="Take what was written into your text and go on"
                    )
                    self._copy = button(
                        "Copy", self._take_along, icon="copy", hint="Copy text and continuation"
                    )
                    text("Ctrl+Enter", "kbd")
                    self._writer.add_meter()
                with (
                    ui.element("div")
                    .classes("paper")
                    .props('tabindex=0 role=region aria-label="What was written"'),
                    ui.element("p").classes("written"),
                ):
                    self._begun = ui.label().classes("begun")
                    self._new = ui.label().classes("new")
            self._panel = option_cards(TEXTS)
        self._enable()

    async def _start(self) -> None:
        if self._writer.is_running:
            return
        self._notice.clear()
        prompt = cut(self._prompt.value)
        try:
            options = self._panel.options()
            seed = options.setdefault("seed", secrets.randbits(32))
            job = self._visit.chosen.engine.submit(prompt, **options)
        except Exception as error:
            self._notice.show(error)
            return
        self._begun.text, self._written = prompt, ""
        self._enable()
        await self._writer.write(job, self._show, f"seed {seed}")
        self._enable()

    def _show(self, written: str) -> None:
        self._written = self._new.text = written

    def _enable(self) -> None:
        done = bool(self._written) and not self._writer.is_running
        enable(self._more, done)
        enable(self._copy, done)

    async def _go_on(self) -> None:
        self._prompt.value = cut(self._begun.text + self._written)
        await self._start()

    def _take_along(self) -> None:
        ui.clipboard.write(self._begun.text + self._written)
        ui.notify("Copied", position="bottom")


def option_cards(texts: object) -> OptionPanel:
    """Show all options of sampling, the rarer ones folded away."""
    with card("Sampling"):
        panel = OptionPanel()
        panel.add(*DRAW, *LENGTH)
        with ui.element("details").classes("more"):
            text("More rules", "summary")
            panel.add(*MORE)
            panel.add_texts(*texts)  # type: ignore[misc]
        button("Reset", panel.reset, icon="reset", hint="Put the numbers back")
    return panel


def write_tab(visit: Visit) -> None:
    """Show how a text goes on."""
    Write(visit)
