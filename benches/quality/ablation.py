"""What each part of today's recipe is worth: nanoGPT's CPU configuration on Shakespeare, one switch at a time.

    python benches/quality/ablation.py -o runs/ablation
    python benches/quality/ablation.py -o runs/ablation --rows "gated silu" "relu2" --seeds 1337
    python benches/quality/ablation.py --list

Every row is 4 layers, 4 heads, 128 wide, character level, 2,000 steps of 12 x 64 characters, and the loss over the
whole held-out tenth of the text. A row names the one it starts from, so that a difference is that of one switch. What
is done is kept in DIR/results.csv and not done again, so an interrupted run is continued by the same command. DIR then
has results.csv, curves.csv, ablation.md and, with matplotlib, ablation.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import subgpt

ROOT = Path(__file__).resolve().parents[2]
SHAKESPEARE = ROOT.parent / "shared" / "data" / "corpora" / "tinyshakespeare.txt"

TRAINING = {
    "max_steps": 2000,
    "batch_size": 12,
    "learning_rate": 3e-3,
    "min_learning_rate": 3e-4,
    "warmup_steps": 100,
    "eval_steps": 250,
    "eval_batches": 0,
    "save_steps": 0,
}
RESULTS = ("row", "seed", "steps", "dtype", "parameters", "loss", "bits_per_byte", "seconds")
CURVES = ("row", "seed", "steps", "dtype", "step", "loss")


@dataclass(frozen=True)
class Row:
    """A recipe: the row it starts from, and what it changes there."""

    name: str
    base: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def rates(base: str, *values: float, **others: Any) -> list[Row]:
    """Make a row for each learning rate, each falling to a tenth."""
    return [
        Row(f"{base}, rate {v:g}", base, training={"learning_rate": v, "min_learning_rate": v / 10, **others})
        for v in values
    ]


WSD = {"lr_scheduler_type": "warmup_stable_decay", "min_learning_rate": 0.0}
MUON = {"optimizer": "muon", "muon_learning_rate": 0.02}
ROWS = [
    Row("nanogpt-cpu"),
    *rates("nanogpt-cpu", 1e-3, 6e-3),
    Row("rms_norm", "nanogpt-cpu", {"norm": "rms_norm"}),
    Row("rotary", "rms_norm", {"position": "rotary"}),
    Row("qk_norm", "rotary", {"qk_norm": True}),
    Row("no gains", "qk_norm", {"norm_gain": False}),
    Row("relu2", "qk_norm", {"activation": "relu2"}),
    Row("gated silu", "qk_norm", {"mlp": "gated", "activation": "silu"}),
    *rates("relu2", 6e-3, 1e-2),
    *rates("gated silu", 6e-3, 1e-2),
    Row("relu2, decay over two fifths", "relu2", training=WSD),
    Row("gated silu, decay over two fifths", "gated silu", training=WSD),
    Row("gated silu, decay over three fifths", "gated silu", training={**WSD, "num_decay_steps": 1200}),
    Row("gated silu, untied", "gated silu", {"tie_embeddings": False}),
    Row("relu2, muon", "relu2", training=MUON),
    Row("gated silu, muon", "gated silu", training=MUON),
    Row("gated silu, muon, rate 0.04", "gated silu, muon", training={"muon_learning_rate": 0.04}),
    Row("gated silu, muon, rate 0.01", "gated silu, muon", training={"muon_learning_rate": 0.01}),
    Row("gated silu, muon, decay over two fifths", "gated silu, muon", training=WSD),
    Row("nano-modern", None, {"preset": "nano-modern"}, MUON),
]
BY_NAME = {row.name: row for row in ROWS}


def recipe(row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the fields of model and training of `row`, everything it starts from included."""
    model, training = recipe(BY_NAME[row.base]) if row.base else ({"preset": "nanogpt-cpu"}, dict(TRAINING))
    return {**model, **row.model}, {**training, **row.training}


class Course(subgpt.Callback):
    """Notes every validation."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, subgpt.Evaluation]] = []

    def on_eval(self, event: Any) -> None:
        self.seen.append((event.step, event.evaluation))


def run(row: Row, seed: int, steps: int, dtype: str, text: Path, table: Table) -> None:
    """Train one recipe with one seed, and write down how it went."""
    shape, settings = recipe(row)
    settings |= {"max_steps": steps, "warmup_steps": min(settings["warmup_steps"], steps // 10), "seed": seed}
    if "num_decay_steps" in settings:
        settings["num_decay_steps"] = settings["num_decay_steps"] * steps // TRAINING["max_steps"]
    tokenizer = subgpt.Tokenizer.train(text, level="char")
    config = subgpt.GPTConfig.preset(shape.pop("preset"), vocab_size=tokenizer.vocab_size, **shape)
    model = subgpt.GPT(config, seed=seed, dtype=dtype)
    course = Course()
    begin = time.monotonic()
    done = subgpt.pretrain(model, tokenizer, text, subgpt.TrainConfig(**settings), callbacks=[course])
    if done.interrupted:
        raise KeyboardInterrupt
    last = course.seen[-1][1]
    key = {"row": row.name, "seed": seed, "steps": steps, "dtype": model.dtype}
    table.add_curve({**key, "step": step, "loss": f"{seen.loss:.6f}"} for step, seen in course.seen)
    table.add({
        **key,
        "parameters": model.num_params(),
        "loss": f"{last.loss:.6f}",
        "bits_per_byte": f"{last.bits_per_byte or 0:.6f}",
        "seconds": f"{time.monotonic() - begin:.1f}",
    })  # fmt: skip
    print(f"{row.name}, seed {seed}: loss {last.loss:.4f} after {steps} steps", flush=True)


class Table:
    """The files of DIR. A result is written after its curve, so that what has a result has a curve."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = self._read("results.csv")

    def has(self, row: Row, seed: int, steps: int, dtype: str) -> bool:
        key = (row.name, str(seed), str(steps), dtype)
        return any((r["row"], r["seed"], r["steps"], r["dtype"]) == key for r in self.rows)

    def add(self, values: dict[str, Any]) -> None:
        self._append("results.csv", RESULTS, [values])
        self.rows = self._read("results.csv")

    def add_curve(self, points: Iterable[dict[str, Any]]) -> None:
        self._append("curves.csv", CURVES, points)

    def curves(self) -> list[dict[str, str]]:
        return self._read("curves.csv")

    def _read(self, name: str) -> list[dict[str, str]]:
        path = self.folder / name
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def _append(self, name: str, fields: tuple[str, ...], rows: Iterable[dict[str, Any]]) -> None:
        path = self.folder / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields)
            if new:
                writer.writeheader()
            writer.writerows(rows)


def averaged(table: Table, steps: int, dtype: str) -> list[dict[str, Any]]:
    """Give the rows that were run, with their means over seeds."""
    found = []
    for row in ROWS:
        runs = [r for r in table.rows if (r["row"], r["steps"], r["dtype"]) == (row.name, str(steps), dtype)]
        if runs:
            losses = [float(run["loss"]) for run in runs]
            mean = {
                n: statistics.mean(float(run[n]) for run in runs)
                for n in ("loss", "bits_per_byte", "seconds")
            }
            found.append(
                {
                    "row": row.name,
                    "base": row.base,
                    "parameters": int(runs[0]["parameters"]),
                    **mean,
                    "losses": losses,
                }
            )
    return found


def summary(rows: list[dict[str, Any]], steps: int, dtype: str) -> str:
    """Write the table of means: loss, its spread over seeds, and the difference to the row it starts from."""
    mean = {row["row"]: row["loss"] for row in rows}
    lines = [
        f"Character level, {steps} steps of 12 x 64, {dtype}; loss over the whole held-out tenth, in nats.",
        "",
        "| recipe | starts from | parameters | loss | seeds: from, to | difference | bits per byte | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        losses, loss = row["losses"], row["loss"]
        change = f"{loss - mean[row['base']]:+.4f}" if row["base"] in mean else ""
        lines.append(
            f"| {row['row']} | {row['base'] or ''} | {row['parameters']:,} | {loss:.4f} "
            f"| {len(losses)}: {min(losses):.4f} to {max(losses):.4f} | {change} | {row['bits_per_byte']:.4f} "
            f"| {row['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def draw(table: Table, steps: int, dtype: str, path: Path) -> None:
    """Draw the mean curves, the best row last and boldest."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError:
        print('no ablation.png: pip install "subgpt[plot]" brings matplotlib')
        return
    points: dict[str, dict[int, list[float]]] = {}
    for point in table.curves():
        if (point["steps"], point["dtype"]) == (str(steps), dtype) and point["row"] in BY_NAME:
            at = points.setdefault(point["row"], {}).setdefault(int(point["step"]), [])
            at.append(float(point["loss"]))
    means = {row: {s: statistics.mean(x) for s, x in sorted(at.items())} for row, at in points.items()}
    order = sorted(means, key=lambda row: -list(means[row].values())[-1])
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=colormaps["tab20"].colors)
    for row in order:
        curve = {s: loss for s, loss in means[row].items() if s >= steps // 8}
        best = row == order[-1]
        axes.plot(*zip(*curve.items(), strict=True), label=f"{row} ({list(curve.values())[-1]:.3f})",
                  linewidth=2.4 if best else 1.0, color="black" if best else None)  # fmt: skip
    axes.set_xlabel("step")
    axes.set_ylabel("validation loss, nats per character")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablation"), metavar="DIR")
    parser.add_argument("--data", type=Path, default=SHAKESPEARE, metavar="FILE", help="the text")
    parser.add_argument("--rows", nargs="+", choices=BY_NAME, default=list(BY_NAME), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1337, 1338, 1339])
    parser.add_argument("--steps", type=int, default=TRAINING["max_steps"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    parser.add_argument("--list", action="store_true", help="show the rows and what they change")
    args = parser.parse_args()
    if args.list:
        for row in ROWS:
            print(f"{row.name}: {row.base or 'by itself'} {({**row.model, **row.training}) or ''}")
        return
    if not args.data.is_file():
        raise SystemExit(f"{args.data} is not there; give Shakespeare's text with --data")

    table = Table(args.output)
    for seed in args.seeds:  # every row once before any row twice
        for name in args.rows:
            if table.has(BY_NAME[name], seed, args.steps, args.dtype):
                continue
            try:
                run(BY_NAME[name], seed, args.steps, args.dtype, args.data, table)
            except subgpt.ConfigError as error:
                print(f"{name}: skipped, this version cannot make it: {error}", flush=True)
    rows = averaged(table, args.steps, args.dtype)
    text = summary(rows, args.steps, args.dtype)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (args.output / "ablation.md").write_text(text, encoding="utf-8")
    draw(table, args.steps, args.dtype, args.output / "ablation.png")
    print(text)


if __name__ == "__main__":
    main()
