"""A plot of what fine-tuning gained and forgot: losses before and after, two dots and a line each (extra `plot`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.errors import InvalidValueError
from subgpt.training.plot import COLORS, check_picture, dress, new_figure, save_figure

if TYPE_CHECKING:
    from subgpt.training.run import Run

WHAT = "the plot of changes"
_INK, _FAINT = "#1d2330", "#6a7282"
_NAMES = {
    "new": "gained: loss on the new data",
    "old": "forgotten: loss on the old data",
    "recalled": "forgotten: loss on what the model wrote before",
    "preferences": "loss on preferences",
}


def save_changes_plot(runs: "Mapping[str, Run]", path: str | Path) -> Path:
    """Draw the losses of fine-tuning runs before and after into `path`: PNG, SVG or PDF by its ending.

    Args:
        runs: By the names to write beside them: what `finetune` gave. Each kind of data that was measured both times
            has a panel of its own.
        path: The picture; written whole or not at all. It is given back.

    Raises:
        MissingExtraError: matplotlib is not installed; the message has the line to type.
        InvalidValueError: Another ending, or no run that was measured before and after.

    """
    target = check_picture(path, WHAT)
    kinds = [kind for kind in _NAMES if any(_change(run, kind) for run in runs.values())]
    if not kinds:
        raise InvalidValueError(
            "save_changes_plot: no run was measured before and after; give what finetune gave, with held-out data"
        )
    figure = new_figure(0.6 + 3.8 * len(kinds), 1.2 + 0.42 * len(runs))
    for i, kind in enumerate(kinds):
        changes = {name: _change(run, kind) for name, run in runs.items()}
        _panel(figure.add_subplot(1, len(kinds), i + 1), _NAMES[kind], changes, first=i == 0)
    return save_figure(figure, target)


def _change(run: "Run", kind: str) -> tuple[float, float] | None:
    """Give the loss on a kind of data before and after the run; None where it was not measured both times."""
    if kind not in run.before or kind not in run.after:
        return None
    return run.before[kind].loss, run.after[kind].loss


def _panel(
    axes: Any, title: str, changes: "Mapping[str, tuple[float, float] | None]", *, first: bool
) -> None:
    """Draw one row a run: a grey dot before, a coloured one after, blue where the loss fell, orange where it rose."""
    dress(axes, title, "nats per token", "")
    axes.grid(visible=False)
    for row, change in enumerate(changes.values()):
        if change is None:
            continue
        before, after = change
        color = COLORS["train"] if after <= before else COLORS["validation"]
        axes.annotate(
            "", (after, row), (before, row), arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.8}
        )
        axes.plot(before, row, "o", color=COLORS["other"], markersize=5)
        side = 1 if after > before else -1
        for value, away in ((before, -side), (after, side)):
            axes.annotate(
                f"{value:.2f}",
                (value, row),
                (7 * away, 0),
                textcoords="offset points",
                ha="left" if away > 0 else "right",
                va="center",
                fontsize=9.5,
                color=_FAINT if value == before else color,
            )
    axes.set_yticks(range(len(changes)), list(changes) if first else [], fontsize=10.5, color=_INK)
    axes.set_ylim(len(changes) - 0.4, -0.6)
    losses = [loss for change in changes.values() for loss in change or ()]
    air = 0.28 * (max(losses) - min(losses)) or 0.5  # the numbers stand there
    axes.set_xlim(min(losses) - air, max(losses) + air)
    axes.locator_params(axis="x", nbins=5)
