"""Pictures of attention, drawn by matplotlib (extra `plot`): where each position of a text looks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subgpt.errors import InvalidValueError
from subgpt.evaluation.next_tokens import token_text
from subgpt.generation.prompt import prompt_ids
from subgpt.model.fit import check_fit
from subgpt.training.plot import check_picture, new_figure, save_figure
from subgpt.visible import show_text

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

_INK, _FAINT, _EDGE = "#1d2330", "#6a7282", "#d5d9e0"
_MOST_NAMED = 48
"""Tokens that a map has names for; of longer texts positions are numbered."""


def save_attention_plot(
    model: "GPT",
    tokenizer: "Tokenizer",
    text: str,
    path: str | Path,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> Path:
    """Draw a map for each head (across) of each layer (down) into `path`: PNG, SVG or PDF by its ending.

    layers, heads: which to draw, counted from 0; None: all. Of a text longer than block_size the last block_size tokens
    are looked at. Gives the path back. Raises MissingExtraError with the line to type where matplotlib is not
    installed, InvalidValueError for another ending or a layer or head that the model has not.
    """
    target = check_picture(path, "the picture of attention")
    check_fit(model, tokenizer, "save_attention_plot")
    rows = _chosen("layers", layers, model.config.n_layer)
    columns = _chosen("heads", heads, model.config.n_head)
    ids = prompt_ids(tokenizer, text)[-model.config.block_size :]
    maps = model.attention_maps(ids)[np.ix_(rows, columns)]
    names = [show_text(token_text(tokenizer, token)) for token in ids.tolist()]
    return save_figure(_figure(maps, names, rows, columns), target)


def _chosen(what: str, numbers: Sequence[int] | None, count: int) -> list[int]:
    chosen = list(range(count)) if numbers is None else list(numbers)
    for number in chosen:
        if isinstance(number, bool) or not hasattr(number, "__index__") or not 0 <= number < count:
            raise InvalidValueError(
                f"save_attention_plot: {what} has {number!r}; this model's are 0 to {count - 1}"
            )
    if not chosen:
        raise InvalidValueError(
            f"save_attention_plot: {what} is empty; name one of 0 to {count - 1}, or none"
        )
    return chosen


def _figure(
    maps: npt.NDArray[np.float32], names: Sequence[str], layers: Sequence[int], heads: Sequence[int]
) -> Any:
    """Draw maps (layers, heads, T, T) on one scale, the tokens named at the left and the bottom."""
    named = len(names) <= _MOST_NAMED
    # A named token takes a line of text, where the maps are few enough; many maps are for an overview.
    side = max(1.6, 0.19 * len(names)) if named and len(layers) * len(heads) <= 4 else 1.6
    side = min(side, 9.0)
    size = min(8.0, 72 * side / max(1, len(names)) * 0.72)
    named = named and size >= 2.5
    figure = new_figure(side * len(heads) + 1.6, side * len(layers) + 1.4)
    grid = figure.subplots(len(layers), len(heads), squeeze=False)
    colors = _colors()
    unseen = np.triu(np.ones(maps.shape[2:], bool), 1)
    for i, layer in enumerate(layers):
        for j, head in enumerate(heads):
            axes = grid[i, j]
            image = axes.imshow(np.ma.array(maps[i, j], mask=unseen), cmap=colors, vmin=0, vmax=1)
            _dress(axes, len(names))
            if i == 0:
                axes.set_title(f"head {head}", fontsize=9, color=_INK)
            if j == 0:
                axes.set_ylabel(f"layer {layer}", fontsize=9, color=_INK, fontweight="bold")
                _name(axes.yaxis, names, named, size)
            if i == len(layers) - 1:
                _name(axes.xaxis, names, named, size, rotation=90)
    figure.supxlabel("looked at", fontsize=9, color=_FAINT)
    figure.supylabel("looking", fontsize=9, color=_FAINT)
    bar = figure.colorbar(image, ax=grid, shrink=0.8, aspect=18, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=_FAINT, length=0)
    bar.set_label("attention, each row adds up to 1", fontsize=8, color=_FAINT)
    return figure


def _colors() -> Any:
    """White to dark blue, through the blue of the other plots; what is never seen is grey."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = ["#ffffff", "#9dbdf0", "#2563c9", "#0b1f4b"]
    return LinearSegmentedColormap.from_list("attention", shades).with_extremes(bad="#f3f4f6")


def _dress(axes: Any, count: int) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, colors=_INK)
    for spine in axes.spines.values():
        spine.set_color(_EDGE)
        spine.set_linewidth(0.6)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)


def _name(axis: Any, names: Sequence[str], named: bool, size: float, **looks: Any) -> None:
    """Write the tokens along an axis, or some positions where they are too many."""
    if named:
        axis.set_ticks(range(len(names)), names, fontsize=size, **looks)
        return
    step = max(1, -(-len(names) // 5))
    axis.set_ticks(range(0, len(names), step))
    axis.set_tick_params(labelsize=7, labelcolor=_FAINT)
