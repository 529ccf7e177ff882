"""The tab *Tokenizer*: a text as tokenizers cut it, side by side, while it is typed."""

from functools import partial
from typing import Any

from nicegui import ui

from subgpt.playground.limits import MAX_CHIPS, cut
from subgpt.playground.parts import button, card, html, rendered, text_area
from subgpt.playground.views.texts import BYTES, CHARACTERS, openers_of, view_of
from subgpt.playground.visit import Visit
from subgpt.playground.working import Latest, Notice

EXAMPLE = "this is a bruh moment"
SAMPLES = {
    "a sentence": EXAMPLE,
    "spaces and lines": "def f(x):\n    return  x * 2\n",
    "numbers": "3.14159 2026-11-29 1,000,000",
    "scripts": "naïve café – 東京 🙂 Größe",
}


def tokens_tab(visit: Visit) -> None:
    """Show what each tokenizer makes of one text."""
    openers = openers_of(visit.served, visit.runs)
    names = [*openers, CHARACTERS, BYTES]
    shown = [one.name for one in visit.served if one.name in openers] + [CHARACTERS, BYTES]
    state: dict[str, Any] = {"text": EXAMPLE, "names": shown, "special": True}

    def work(given: str, chosen: list[str], special: bool) -> str:
        parts = []
        for name in chosen:
            view = view_of(name, openers, given, special=special)
            parts.append(
                rendered(
                    "chips.html.j2",
                    view=view,
                    characters=len(given),
                    most=MAX_CHIPS,
                    with_bytes=name != BYTES,
                )
            )
        return "".join(parts)

    def ask() -> None:
        latest.ask(cut(state["text"]), [name for name in state["names"] if name in names], state["special"])

    def take(name: str, value: Any) -> None:
        state[name] = value
        ask()

    with card(
        "How a text becomes tokens",
        "A model reads numbers. A tokenizer cuts text into pieces that have one each.",
    ):
        field = text_area("Text", EXAMPLE, lambda event: take("text", event.value or ""), rows=3)
        field.props("autofocus")
        with ui.element("div").classes("strip"):
            for name, sample in SAMPLES.items():
                button(name, partial(field.set_value, sample), kind="quiet")
        with ui.element("div").classes("strip spread"):
            chosen = ui.select(
                names,
                multiple=True,
                value=shown,
                label="Tokenizers",
                on_change=lambda event: take("names", list(event.value or ())),
            )
            chosen.props("outlined dense options-dense").classes("grow")
            ui.checkbox(
                "recognise special tokens", value=True, on_change=lambda event: take("special", event.value)
            ).props("dense")
    notice = Notice()
    views = html().classes("chip-views")
    latest = Latest(work, views.set_content, notice, views)
    ask()
