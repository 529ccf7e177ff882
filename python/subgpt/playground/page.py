"""The page: head, tabs, and what they share; one visitor each."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import Request
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.types import ASGIApp, Receive, Scope, Send

from subgpt.playground.parts import ICONS, html, rendered, text
from subgpt.playground.tabs.chat import chat_tab
from subgpt.playground.tabs.inside import inside_tab
from subgpt.playground.tabs.next_token import next_token_tab
from subgpt.playground.tabs.tokens import tokens_tab
from subgpt.playground.tabs.training import training_tab
from subgpt.playground.tabs.write import write_tab
from subgpt.playground.visit import Visit

if TYPE_CHECKING:
    from fastapi import FastAPI

    from subgpt.serving.models import Served

TITLE = "subgpt playground"
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">'
    '<rect x="2" y="5" width="13" height="9" rx="2.5" fill="#2563c9"/>'
    '<rect x="17" y="5" width="13" height="9" rx="2.5" fill="#7fb0ff"/>'
    '<rect x="2" y="18" width="8" height="9" rx="2.5" fill="#7fb0ff"/>'
    '<rect x="12" y="18" width="18" height="9" rx="2.5" fill="#2563c9"/></svg>'
)
"""Tokens of different lengths in two rows."""

TABS: dict[str, tuple[str, str, Callable[[Visit], None]]] = {
    "tokens": ("Tokenizer", "Tokens", tokens_tab),
    "next": ("Next token", "Next", next_token_tab),
    "write": ("Write", "Write", write_tab),
    "chat": ("Chat", "Chat", chat_tab),
    "training": ("Training", "Training", training_tab),
    "inside": ("Inside", "Inside", inside_tab),
}
"""Name in the address, label, the label where there is little room, and what is in the tab."""

_SHOWN = "subgpt.playground"
"""Where a request has the models and the folder that its page shows, and how long a text of it may be."""
_PATIENCE = 8.0
"""Seconds in which a browser may come back to what it left; afterwards its work is stopped."""


def put_page(app: "FastAPI", served: "list[Served]", runs: Path | None, max_tokens: int) -> None:
    """Mount the page at `/` of `app`. Nothing is stored, on disk or in cookies: what a visitor typed is in his page."""

    @ui.page("/", title=TITLE, favicon=LOGO, language="en-US")
    def page(request: Request) -> None:
        shown, folder, most = request.scope[_SHOWN]
        build(Visit(shown, folder, shown[0], most))

    # NiceGUI is one application, whose middleware cannot be added to once it has run: begin anew for another app.
    nicegui_app.user_middleware.clear()
    nicegui_app.middleware_stack = None
    app.add_middleware(_Shows, shown=(served, runs, max_tokens))
    ui.run_with(
        app,
        title=TITLE,
        favicon=LOGO,
        dark=None,
        language="en-US",
        reconnect_timeout=_PATIENCE,
        tailwind=False,
        show_welcome_message=False,
        binding_refresh_interval=None,
    )


class _Shows:
    """Says with every request what the page of this app shows."""

    def __init__(self, app: ASGIApp, shown: "tuple[list[Served], Path | None, int]") -> None:
        self.app, self.shown = app, shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_SHOWN] = self.shown
        await self.app(scope, receive, send)


def build(visit: Visit) -> None:
    """Build the page of one visitor."""
    ui.add_head_html(f"<style>{_file('look.css')}</style><script>{_file('look.js')}</script>")
    ui.colors(primary="#2563c9", negative="#b42323")
    _build_head(visit)
    tabs = _Tabs(visit)
    ui.on("hello", lambda event: _greet(visit, tabs, event.args))


def _build_head(visit: Visit) -> None:
    with ui.element("header").classes("top"):
        html(f"{LOGO}<span>subgpt</span>", "h1").classes("brand")
        if len(visit.served) > 1:
            _choose_model(visit)
        about = html().classes("about")
        with ui.element("button").classes("btn btn-quiet theme") as theme:
            for name in ("system", "dark", "light"):
                html(ICONS[name], "span").classes(f"icon theme-{name}")
        theme.props["type"] = "button"
        theme.props["aria-label"] = theme.props["title"] = "Change theme: system, dark, light"
        theme.on("click", js_handler="() => subgptNextTheme()")

    def describe() -> None:
        about.set_content(rendered("about.html.j2", served=visit.chosen, config=visit.chosen.model.config))

    visit.on_model(describe)
    describe()


def _choose_model(visit: Visit) -> None:
    choice = ui.select(
        [one.name for one in visit.served],
        value=visit.chosen.name,
        label="Model",
        on_change=lambda event: visit.choose(str(event.value)),
    )
    choice.props("outlined dense options-dense").classes("model")


class _Tabs:
    """The tabs. What is in one is made when it first comes to the front, so that the page is there at once."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._address = visit.tab
        with ui.tabs().props("dense no-caps align=left inline-label").classes("bar-of-tabs") as self._bar:
            for name, (label, short, _) in TABS.items():
                with ui.tab(name, label=""):
                    text(label, "span").classes("wide")
                    text(short, "span").classes("narrow")
        with ui.tab_panels(self._bar, animated=False).classes("panels").props("role=main"):
            self._empty = {name: ui.tab_panel(name).classes("panel") for name in TABS}
        self._bar.on_value_change(lambda event: self._turn(str(event.value)))
        self.follow(visit.tab)

    def follow(self, address: str) -> None:
        """Bring the tab to the front that the page's address names; an unknown one is nobody's."""
        if address in TABS:
            self._address = address
            self._bar.value = address

    def _turn(self, tab: str) -> None:
        if tab not in TABS:
            return
        if (panel := self._empty.pop(tab, None)) is not None:
            with panel:
                TABS[tab][2](self._visit)
        # What the address named is never written back: it may name another tab by the time that this arrives.
        if tab != self._address:
            self._address = tab
            ui.run_javascript(f"history.replaceState(null, '', '#{tab}')")  # our name, not the visitor's
        self._visit.turn_to(tab)


def _greet(visit: Visit, tabs: _Tabs, said: Any) -> None:
    """Take what the browser says of itself: whether the page is dark, and the tab in its address."""
    if isinstance(said, dict):
        visit.look(bool(said.get("dark")))
        tabs.follow(str(said.get("tab")))


def _file(name: str) -> str:
    return (files("subgpt.playground") / "looks" / name).read_text(encoding="utf-8")
