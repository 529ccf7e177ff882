"""`loss.png`: training loss, smoothed, and validation loss. Needs matplotlib (extra `plot`)."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt import _core
from subgpt.errors import MissingExtraError

if TYPE_CHECKING:
    from subgpt.training.run import Run

_INSTALL = "the picture of the losses needs matplotlib: pip install 'subgpt[plot]'"


def plot_losses(run: "Run", path: Path) -> Path:
    """Draw `run` into `path` (PNG, 900 x 540) and return the path; MissingExtraError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(_INSTALL) from None
    figure = Figure(figsize=(9, 5.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if run.losses:
        axes.plot(run.steps, run.losses, color="tab:blue", alpha=0.25, linewidth=0.8)
        axes.plot(run.steps, _smooth(run.losses), color="tab:blue", label="training")
    if run.val_losses:
        axes.plot(
            run.val_steps, run.val_losses, color="tab:orange", marker="o", markersize=3, label="validation"
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.grid(alpha=0.3)
    if run.losses or run.val_losses:
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    _core.write_atomic(str(path), buffer.getvalue())
    return path


def _smooth(losses: list[float]) -> list[float]:
    """Take an exponential mean over about a fiftieth of the run, without bias at the start (as Adam does)."""
    keep = 1.0 - 1.0 / max(1.0, len(losses) / 50)
    mean, weight, result = 0.0, 0.0, []
    for loss in losses:
        mean, weight = keep * mean + (1 - keep) * loss, keep * weight + (1 - keep)
        result.append(mean / weight)
    return result
