"""What a sweep leaves: `results.json`, `results.csv` and `report.html`."""

import csv
import io
import json
from typing import Any

from subgpt import _core
from subgpt.search.outcomes import Outcome, Sweep
from subgpt.search.plan import SweepDirectory

COLUMNS = ("val_loss", "best_step", "train_loss", "steps", "seconds", "parameters", "run", "reason")


def write_results(sweep: Sweep) -> None:
    """Write all three, each whole or not at all."""
    from subgpt.report.sweep import sweep_page

    directory = SweepDirectory(sweep.output_dir)
    rows = [seen.to_dict(sweep.output_dir) for seen in sweep.outcomes]
    best = None if sweep.best is None else sweep.best.trial
    values = {
        "axes": list(sweep.axes),
        "counts": sweep.counts,
        "interrupted": sweep.interrupted,
        "best": best,
    }
    text = json.dumps({**values, "trials": rows}, indent=2, ensure_ascii=False) + "\n"
    _core.write_atomic(str(directory.results), text.encode())
    _core.write_atomic(str(directory.table), _table(sweep).encode())
    _core.write_atomic(str(directory.report), sweep_page(sweep).encode())


def _table(sweep: Sweep) -> str:
    """Write the outcomes as CSV, the best first, an axis a column."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["trial", "status", *sweep.axes, *COLUMNS])
    table.writerows(_row(seen, sweep) for seen in sweep.outcomes)
    return text.getvalue()


def _row(seen: Outcome, sweep: Sweep) -> list[Any]:
    facts = seen.to_dict(sweep.output_dir)
    own = [seen.values.get(name, "") for name in sweep.axes]
    return [seen.trial, seen.status, *own, *("" if facts[name] is None else facts[name] for name in COLUMNS)]
