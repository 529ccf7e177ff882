"""All heads of a model as small pictures; one that is clicked is looked at closely."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from nicegui import ui

from subgpt.playground.limits import MAX_HEADS
from subgpt.playground.parts import text
from subgpt.playground.views.curves import Colours
from subgpt.playground.views.thumbs import thumbnail


class HeadGrid:
    """A button for each head, a row for each layer. choose: called with layer and head."""

    def __init__(self, choose: Callable[[int, int], None]) -> None:
        self._choose = choose
        self._buttons: dict[tuple[int, int], ui.element] = {}
        self._chosen = (0, 0)
        self._box = ui.element("div").classes("heads-box")

    def show(self, maps: npt.NDArray[np.float32], look: Colours) -> None:
        """Draw maps (n_layer, n_head, T, T); of a model with very many heads none."""
        layers, heads = maps.shape[:2]
        if layers * heads > MAX_HEADS:
            layers = heads = 0
        wanted = {(layer, head) for layer in range(layers) for head in range(heads)}
        if wanted != self._buttons.keys():
            self._build(layers, heads)
        for (layer, head), made in self._buttons.items():
            made.style["background-image"] = f"url('{thumbnail(maps[layer, head], look.low, look.high)}')"

    def mark(self, layer: int, head: int) -> None:
        """Show which head is looked at closely."""
        for at, on in ((self._chosen, "false"), ((layer, head), "true")):
            if at in self._buttons:
                self._buttons[at].props["aria-pressed"] = on
        self._chosen = (layer, head)

    def _build(self, layers: int, heads: int) -> None:
        self._box.clear()
        self._buttons = {}
        if not layers:
            return
        with self._box:
            text("All heads, a row for each layer", "h3")
            with ui.element("div").classes("heads").style(f"--heads: {heads}"):
                for layer in range(layers):
                    for head in range(heads):
                        self._buttons[layer, head] = self._button(layer, head)

    def _button(self, layer: int, head: int) -> ui.element:
        made = ui.element("button").classes("head")
        made.props["type"] = "button"
        made.props["aria-label"] = made.props["title"] = f"Layer {layer}, head {head}"
        return made.on("click", lambda: self._choose(layer, head), [])
