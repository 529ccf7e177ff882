"""The page of a run: its losses, and what was gained and forgotten where that was measured."""

from typing import TYPE_CHECKING

from subgpt import _core
from subgpt.report.facts import LossChange, ProbeScore, Report
from subgpt.report.page import render_page
from subgpt.training.plot import nats_per, panel_of
from subgpt.units import duration

if TYPE_CHECKING:
    from subgpt.training.run import Run

_NAMES = {
    "new": "the new data",
    "old": "the old data",
    "recalled": "texts that the model wrote before",
    "preferences": "preferences (ln 2 = 0.693 is where nothing is preferred)",
}


def run_page(run: "Run", title: str) -> str:
    """Write what a run did as HTML that needs no other file."""
    losses = [
        LossChange(_NAMES.get(name, name), run.before[name].loss, run.after[name].loss)
        for name in run.after
        if name in run.before
    ]
    facts = [("updates", f"{run.step:,}"), (run.unit, f"{run.tokens:,}"), ("time", duration(run.seconds))]
    if run.val_losses:
        facts.append(("best held-out loss", f"{run.best:.3f} nats, at step {run.best_step:,}"))
    return render_page(
        Report(
            title=title,
            summary="interrupted; it can be resumed" if run.interrupted else "",
            facts=facts,
            stages=(),
            panels=[panel_of(run, "Loss")],
            pieces=(),
            prompt="",
            candidates=(),
            samples=(),
            answers=(),
            losses=losses,
            probes=[ProbeScore(name, change.before, change.after) for name, change in run.probes.items()],
            environment=[("subgpt", _core.__version__)],
            commands=(),
            scale=nats_per(run.unit),
        )
    )
