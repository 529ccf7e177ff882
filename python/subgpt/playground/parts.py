"""Small parts that all tabs are made of."""

import json
from collections.abc import Callable
from typing import Any

from markupsafe import escape
from nicegui import ui

from subgpt.playground.limits import MAX_TEXT
from subgpt.playground.views.bars import percent
from subgpt.report.page import environment


def rendered(template: str, **values: Any) -> str:
    """Fill a template of the playground; every text in it is escaped."""
    made = environment("subgpt.playground")
    made.filters["percent"] = percent
    return made.get_template(template).render(**values)


def html(content: str = "", tag: str = "div") -> ui.html:
    """Put markup of our own templates on the page, whose texts are escaped there."""
    return ui.html(content, sanitize=False, tag=tag)


def text(content: str, tag: str = "p") -> ui.html:
    """Put a text on the page that stays as it is; `ui.label` is for texts that change."""
    return html(str(escape(content)), tag)


def button(
    label: str,
    on_click: Callable[..., Any] | None = None,
    *,
    kind: str = "plain",
    icon: str = "",
    hint: str = "",
) -> ui.element:
    """Make a native button. kind: "primary", "plain" or "quiet". hint: what it does, where its label is too short."""
    with ui.element("button").classes(f"btn btn-{kind}") as made:
        if icon:
            html(ICONS[icon], "span").classes("icon").props("aria-hidden=true")
        if label:
            text(label, "span")
    made.props["type"] = "button"
    if hint:
        made.props["aria-label"] = made.props["title"] = hint
    if on_click is not None:
        made.on("click", on_click, [])
    return made


def enable(element: ui.element, on: bool) -> None:
    """Let a native button be pressed, or not."""
    element.props.set_bool("disabled", not on)


def text_area(
    label: str,
    value: str = "",
    on_change: Callable[..., Any] | None = None,
    *,
    rows: int,
) -> ui.textarea:
    """Make a field of several lines."""
    made = ui.textarea(label, value=value, on_change=on_change).classes("area")
    return made.props(f"outlined maxlength={MAX_TEXT} rows={rows} spellcheck=false autocapitalize=off")


async def copy(content: str) -> None:
    """Put a text into the visitor's clipboard, and say whether his browser let us."""
    done = await ui.run_javascript(f"return subgptCopy({json.dumps(content)})", timeout=5.0)
    ui.notify("Copied" if done else "The browser did not let the page copy", position="bottom")


class Slider:
    """A native slider, which every browser's keyboard and screen reader knows."""

    def __init__(
        self, least: float, most: float, step: float, value: float, on_change: Callable[[float], None]
    ) -> None:
        self._on_change = on_change
        self.element = ui.element("input").classes("slider")
        self.element.props.update(type="range", min=least, max=most, step=step, value=value)
        # The page keeps the value as well: it would put the old one back whenever something else is drawn anew.
        self.element.on(
            "input",
            self._take,
            throttle=0.05,
            js_handler=f"""(event) => {{
                const value = Number(event.target.value);
                mounted_app.elements[{self.element.id}].props.value = value;
                emit(value);
            }}""",
        )

    def set_value(self, value: float) -> None:
        """Move it."""
        self.element.props["value"] = value
        self._on_change(value)

    def _take(self, event: Any) -> None:
        if isinstance(event.args, int | float):
            with self.element.props.suspend_updates():
                self.element.props["value"] = event.args
            self._on_change(float(event.args))


def card(title: str = "", note: str = "") -> ui.element:
    """Open a card with a heading and a line beneath it, for `with`."""
    made = ui.element("section").classes("card")
    with made:
        if title:
            text(title, "h2")
        if note:
            text(note).classes("note")
    return made


def _icon(path: str) -> str:
    return (
        '<svg viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor" stroke-width="2" '
        f'stroke-linecap="round" stroke-linejoin="round">{path}</svg>'
    )


ICONS = {
    "run": _icon('<path d="M5 12h13M12 5l7 7-7 7"/>'),
    "stop": _icon('<rect x="6" y="6" width="12" height="12" rx="2"/>'),
    "copy": _icon('<rect x="9" y="9" width="11" height="11" rx="2"/><path d="M5 15V6a2 2 0 0 1 2-2h9"/>'),
    "undo": _icon('<path d="M9 14 4 9l5-5"/><path d="M4 9h10a6 6 0 0 1 0 12h-3"/>'),
    "reset": _icon('<path d="M4 12a8 8 0 1 1 2.6 5.9"/><path d="M4 20v-5h5"/>'),
    "dice": _icon(
        '<rect x="4" y="4" width="16" height="16" rx="3"/><path d="M9 9h.01M15 15h.01M15 9h.01M9 15h.01"/>'
    ),
    "system": _icon(
        '<circle cx="12" cy="12" r="8"/><path d="M12 4v16" /><path d="M12 4a8 8 0 0 1 0 16z" fill="currentColor"/>'
    ),
    "dark": _icon('<path d="M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z"/>'),
    "light": _icon(
        '<circle cx="12" cy="12" r="4"/><path d="M12 3v1M12 20v1M3 12h1M20 12h1"/>'
        '<path d="M5.6 5.6l.7.7M17.7 17.7l.7.7M5.6 18.4l.7-.7M17.7 6.3l.7-.7"/>'
    ),
}
"""Line drawings, on a grid of 24."""
