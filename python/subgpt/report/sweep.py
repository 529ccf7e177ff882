"""The page of a sweep: its trials in a table, the best first, their curves, and each setting against the loss."""

from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.errors import SubgptError
from subgpt.report.page import environment
from subgpt.report.scatter import Dot, scatter_svg
from subgpt.report.svg import loss_svg
from subgpt.training.plot import Panel, Series
from subgpt.units import duration

if TYPE_CHECKING:
    from subgpt.search.outcomes import Outcome, Sweep

_CURVES = 5
"""Trials whose curves are drawn; the best in colour, so that it is found among them."""


def sweep_page(sweep: "Sweep") -> str:
    """Write what a sweep found as HTML that needs no other file: no script, no font, no picture from elsewhere."""
    from markupsafe import Markup

    ranked = [seen for seen in sweep.outcomes if not seen.order[0]]
    losses = [seen.val_loss for seen in ranked if seen.val_loss is not None]
    plots = [] if not ranked else [loss_svg(_curves(ranked)), *_scatters(sweep, ranked)]
    worst, best = max(losses, default=0.0), min(losses, default=0.0)
    rows = [(seen, _row(seen, sweep.axes), _share(seen, best, worst)) for seen in sweep.outcomes]
    return (
        environment()
        .get_template("sweep.html.j2")
        .render(
            title=f"subgpt sweep: {sweep.output_dir.name}",
            summary=str(sweep),
            interrupted=sweep.interrupted,
            facts=_facts(sweep, ranked),
            axes=sweep.axes,
            rows=rows,
            plots=[Markup(plot) for plot in plots],  # both drawers escape every text
        )
    )


def _facts(sweep: "Sweep", ranked: "list[Outcome]") -> list[tuple[str, str]]:
    facts = [("trials", f"{len(sweep.outcomes):,}"), *((name, f"{n:,}") for name, n in sweep.counts.items())]
    facts.append(("time of all trials", duration(sum(seen.seconds for seen in sweep.outcomes))))
    if ranked and ranked[0].run is not None:
        facts.append(("best run", ranked[0].run.relative_to(sweep.output_dir).as_posix()))
    return [*facts, ("subgpt", _core.__version__)]


def _row(seen: "Outcome", axes: tuple[str, ...]) -> list[str]:
    return [_written(seen.values.get(name, "")) for name in axes]


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _share(seen: "Outcome", best: float, worst: float) -> float | None:
    """Give how far a loss is above the best, from 0 to 1; None for what has none to be compared."""
    if seen.order[0] or seen.val_loss is None:
        return None
    return (seen.val_loss - best) / (worst - best) if worst > best else 0.0


def _curves(ranked: "list[Outcome]") -> Panel:
    """Put the validation losses of the best trials into one plot."""
    from subgpt.training.run import Run

    lines = []
    for place, seen in enumerate(ranked[:_CURVES]):
        try:
            run = Run.load(seen.run or "")
        except (SubgptError, OSError):  # moved or removed since
            continue
        role = "validation" if place == 0 else "other"
        begun = (
            1 if len(run.val_steps) > 2 and run.val_steps[0] == 0 else 0
        )  # the untrained model hides the rest
        steps, losses = run.val_steps[begun:], run.val_losses[begun:]
        lines.append(Series(f"trial {seen.trial}", steps, losses, role))  # type: ignore[arg-type]
    title = "Validation loss" if len(ranked) <= _CURVES else f"Validation loss of the best {_CURVES}"
    return Panel(title, lines[::-1])  # the best on top


def _scatters(sweep: "Sweep", ranked: "list[Outcome]") -> list[str]:
    """Draw each axis that has more than one value against the loss."""
    drawn = []
    for name in sweep.axes:
        dots = [
            Dot(
                seen.values[name],
                seen.val_loss,
                f"trial {seen.trial}: {_written(seen.values[name])}, {seen.val_loss:.4f}",
            )
            for seen in ranked
            if name in seen.values and seen.val_loss is not None
        ]
        if len({repr(dot.value) for dot in dots}) > 1:
            drawn.append(scatter_svg(name, dots))
    return drawn
