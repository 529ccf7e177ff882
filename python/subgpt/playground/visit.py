"""`Visit`: one visitor's page. Two browsers share models, never a text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.playground.limits import MAX_TOKENS

if TYPE_CHECKING:
    from subgpt.serving.models import Served


@dataclass
class Visit:
    """What the tabs of one page know of it.

    Attributes:
        served: The models that can be chosen.
        runs: The folder whose runs and tokenizers can be looked at, or None.
        chosen: The model in use.
        max_tokens: New tokens that a text may have.
        dark: Whether the page is dark, for what is drawn with colours of its own.
        tab: The tab in front.

    """

    served: Sequence["Served"]
    runs: Path | None
    chosen: "Served"
    max_tokens: int = MAX_TOKENS
    dark: bool = False
    tab: str = "tokens"
    _on_model: list[Callable[[], None]] = field(default_factory=list)
    _on_looks: list[Callable[[], None]] = field(default_factory=list)
    _on_tab: list[Callable[[], None]] = field(default_factory=list)

    def on_model(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever another model is chosen."""
        self._on_model.append(callback)

    def on_looks(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the page becomes dark or light."""
        self._on_looks.append(callback)

    def on_tab(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever another tab comes to the front."""
        self._on_tab.append(callback)

    def choose(self, name: str) -> None:
        """Use the model called `name`; one that is not served changes nothing."""
        found = next((one for one in self.served if one.name == name), None)
        if found is not None and found is not self.chosen:
            self.chosen = found
            _call(self._on_model)

    def look(self, dark: bool) -> None:
        """Note whether the page is dark."""
        if dark != self.dark:
            self.dark = dark
            _call(self._on_looks)

    def turn_to(self, tab: str) -> None:
        """Note which tab is in front."""
        if tab != self.tab:
            self.tab = tab
            _call(self._on_tab)


def _call(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
