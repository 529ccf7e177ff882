"""The tab *Inside*: where attention looks, and what each layer would predict."""

from typing import TYPE_CHECKING, Any

from nicegui import ui

from subgpt.playground.limits import cut
from subgpt.playground.parts import card, html, rendered, text_area
from subgpt.playground.tabs.heads import HeadGrid
from subgpt.playground.views.bars import piece_of
from subgpt.playground.views.curves import colours, map_options
from subgpt.playground.views.insides import Insides, insides_of
from subgpt.playground.visit import Visit
from subgpt.playground.working import Latest, Notice

if TYPE_CHECKING:
    from subgpt.serving.models import Served

EXAMPLE = "Tom had a red ball. Tom liked to play with his red"


class Inside:
    """A text, the attention of one head on it, and the layers' guesses."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._text = EXAMPLE
        self._found: Insides | None = None
        with card("A text to look at", "Its last tokens, as many as can be drawn."):
            field = text_area("Text", EXAMPLE, self._type, rows=2)
            field.props("autofocus")
            self._notice = Notice()
            self._cut = ui.label().classes("note")
        with card("Attention", "Each row is a token, each column a token it looks at; a row adds up to 1."):
            with ui.element("div").classes("strip"):
                self._layer = ui.select([0], value=0, label="Layer", on_change=lambda _: self._draw())
                self._head = ui.select([0], value=0, label="Head", on_change=lambda _: self._draw())
                for select in (self._layer, self._head):
                    select.props("outlined dense options-dense").classes("short")
            with ui.element("div").classes("map-and-list") as self._drawn:
                self._map = ui.echart({}).classes("map")
                with ui.element("div").classes("stack"):
                    self._heads = HeadGrid(self._choose)
                    self._strongest = html()
        with card(
            "Layers",
            "What each layer would predict if it were the last one (the logit lens). A strong colour is a sure guess.",
        ):
            self._lens = html().classes("sideways")
            self._lens.props('tabindex=0 role=region aria-label="What each layer would predict"')
        self._latest = Latest(self._work, self._show, self._notice, self._drawn, self._lens)
        visit.on_model(self._ask)
        visit.on_looks(self._draw_all)
        visit.on_tab(self._ask)

    def _type(self, event: Any) -> None:
        self._text = cut(event.value)
        self._ask()

    def _ask(self) -> None:
        if self._visit.tab == "inside":
            self._latest.ask(self._visit.chosen, self._text)

    def _work(self, served: "Served", given: str) -> Insides:
        known = self._found
        if known is not None and (known.served, known.text) == (served, given):
            return known
        return insides_of(served, given)

    def _show(self, found: Insides) -> None:
        self._found = found
        layers, heads = found.maps.shape[:2]
        for select, count in ((self._layer, layers), (self._head, heads)):
            kept = select.value if select.value is not None and select.value < count else 0
            select.set_options(list(range(count)), value=kept)
        self._cut.text = found.about
        self._lens.set_content(rendered("lens.html.j2", **_lens_rows(found)))
        self._draw_all()

    def _choose(self, layer: int, head: int) -> None:
        self._layer.value, self._head.value = layer, head

    def _draw_all(self) -> None:
        if self._found is not None:
            self._heads.show(self._found.maps, colours(self._visit.dark))
            self._draw()

    def _draw(self) -> None:
        if self._found is None:
            return
        layer, head = self._layer.value or 0, self._head.value or 0
        weights = self._found.maps[layer, head]
        self._heads.mark(layer, head)
        look, found = colours(self._visit.dark), self._found
        self._map.options.update(map_options(weights, found.pieces, look, found.lens.first))
        self._map.update()
        pairs = self._found.strongest(layer, head)
        self._strongest.set_content(rendered("strongest.html.j2", pairs=pairs))


def _lens_rows(found: Insides) -> dict[str, Any]:
    """Lay the lens out for its table: the last layer above, since that is what the model says."""
    lens = found.lens
    names = ["embeddings", *(f"block {i}" for i in range(len(lens.layers) - 1))]
    rows = [
        (
            names[i],
            [
                (piece_of(found.served.tokenizer, best.id), best.probability, best.id == last.id)
                for (best, *_), (last, *_) in zip(layer, lens.layers[-1], strict=True)
            ],
        )
        for i, layer in enumerate(lens.layers)
    ]
    return {"first": lens.first, "texts": found.pieces, "rows": rows[::-1]}


def inside_tab(visit: Visit) -> None:
    """Show what happens inside."""
    Inside(visit)
