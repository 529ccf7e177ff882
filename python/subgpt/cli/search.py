"""What `lr-find` and `sweep` share: the options of a run, of either kind, and what is made of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.options import source_option
from subgpt.cli.settings import Setting, resolve, settings_of
from subgpt.cli.shape import DEFAULT_PRESET, MODEL_NAMES, SHAPE
from subgpt.cli.training import METHOD, TEAM, TRAIN_NAMES, Inputs, absolute, with_absolute_template
from subgpt.model.dtype import AUTO
from subgpt.training.config import TrainConfig
from subgpt.units import duration

if TYPE_CHECKING:
    from subgpt.search.base import Base
    from subgpt.search.lr_find import OnStep
    from subgpt.search.outcomes import Sweep
    from subgpt.search.rates import LrFind

Data = Annotated[
    list[str] | None,
    source_option("--data", "File, directory or glob; may be repeated."),
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A trained tokenizer, for a fresh model.", show_default=False),
]
StartModel = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="RUN",
        help="Fine-tune this saved model, in place of pretraining a fresh one.",
        show_default=False,
    ),
]

_RATES, _TRIALS = 12, 30  # rows of what is printed

_INPUTS = ("data", "tokenizer", "preset", "model")

# The settings that play no part where the rate rises by itself and nothing is validated, sampled or kept.
_SCHEDULE = (
    "max_steps", "learning_rate", "muon_learning_rate", "lr_scheduler_type", "warmup_steps", "lr_decay_steps",
    "num_decay_steps", "decay_type", "min_learning_rate", "eval_steps", "eval_batches",
    "early_stopping_patience", "load_best_model_at_end", "sample_steps", "sample_prompt", "sample_tokens",
    "logging_steps", "report_to", "overwrite_output_dir", "save_steps", "save_total_limit", "replay_ratio",
    "recall_tokens", "recipe", "probe_match", "quantize_base", "on_spike", "spike_z_score", "max_rollbacks",
)  # fmt: skip

# Those of a run that a sweep decides itself, or that need more than a model and data.
_OWN = ("overwrite_output_dir", "replay_ratio", "probe_match")


def test_settings() -> list[Setting]:
    """List the flags of a learning-rate range test."""
    return _settings(_SCHEDULE)


def sweep_settings() -> list[Setting]:
    """List the flags of what all trials of a sweep share."""
    return _settings(_OWN)


def _settings(leave_out: tuple[str, ...]) -> list[Setting]:
    train = settings_of(
        TrainConfig,
        "Training",
        leave_out=["output_dir", "block_size", *METHOD, *TEAM, *leave_out],  # each trial is one process
        defaults={"dtype": AUTO},
    )
    method = settings_of(TrainConfig, "Adapters and frozen weights", only=METHOD, leave_out=leave_out)
    return [*SHAPE, *train, *method]


def given_of(file: Path | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Give what was set, by name, from a file of settings and flags; paths do not depend on the working directory."""
    sections = ("train", "model", "inputs")
    known = [*_INPUTS, *MODEL_NAMES, *TRAIN_NAMES]
    values = with_absolute_template(resolve(file, flags, known, TrainConfig, sections))
    if values.get("data"):
        values["data"] = absolute([str(path) for path in Inputs(values).sources("data")])
    if values.get("tokenizer"):
        values["tokenizer"] = absolute(values["tokenizer"])
    if values.get("model"):
        from subgpt.search.places import model_place

        values["model"] = model_place(str(values["model"]))
    return values


def base_of(given: Mapping[str, Any]) -> "Base":
    """Put together what a run is made with; what is missing is said."""
    from subgpt.checkpoint.load import locate
    from subgpt.search.base import Base

    inputs = Inputs({"dtype": AUTO, **given})
    data = tuple(inputs.need("data", "give a file, directory or glob of text"))
    start = inputs.values.get("model")
    if start is not None:
        shape = inputs.part(name for name in MODEL_NAMES if name != "block_size")
        base = Base(data, start=start, shape=shape, train=inputs.part(TRAIN_NAMES))
        locate(start)  # what is wrong with it is said once, and not by each trial
        return base
    return Base(
        data,
        tokenizer=inputs.path("tokenizer", "give a directory made by: subgpt tokenizer train"),
        preset=inputs.values.get("preset", DEFAULT_PRESET),
        shape=inputs.part(MODEL_NAMES),
        train=inputs.part(name for name in TRAIN_NAMES if name not in MODEL_NAMES),
    )


@contextmanager
def test_bar(steps: int) -> "Iterator[OnStep]":
    """Show how far a range test is."""
    from subgpt.cli.meter import metering
    from subgpt.cli.terminal import err, is_watched
    from subgpt.cli.volume import is_quiet

    if not is_watched() or is_quiet():
        with metering() as show:
            yield lambda step, *_: show("trying rates, step", step, steps)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[seen]}"),
    )
    with Progress(*columns, console=err(), transient=True) as progress:
        task = progress.add_task("", total=steps, seen="")

        def on_step(step: int, rate: float, _loss: float, smoothed: float) -> None:
            progress.update(task, completed=step, seen=f"rate {rate:.1e}  loss {smoothed:.3f}")

        yield on_step


def print_rates(found: "LrFind") -> None:
    """Print the course of a range test, thinned out, and the rates that it is about."""
    from rich.table import Table
    from rich.text import Text

    from subgpt.cli.tables import bar
    from subgpt.cli.terminal import out

    count = len(found.losses)
    marked = [("recommended", found.suggestion), ("lowest loss", found.lowest)]
    places: dict[int, list[str]] = {round(i * (count - 1) / (_RATES - 1)): [] for i in range(_RATES)}
    for name, rate in marked:
        if rate is not None:
            nearest = min(range(count), key=lambda i: abs(found.learning_rates[i] / rate - 1))
            places.setdefault(nearest, []).append(name)
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("rate", "loss", "smoothed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("")
    low, high = min(found.smoothed), max(found.smoothed[0], min(found.smoothed) + 1e-9)
    for place, names in sorted(places.items()):
        smoothed = found.smoothed[place]
        table.add_row(
            f"{found.learning_rates[place]:.1e}",
            f"{found.losses[place]:.3f}",
            f"{smoothed:.3f}",
            Text(bar((smoothed - low) / (high - low), 24), style="blue"),
            Text(", ".join(names), style="bold" if names else ""),
        )
    out().print(table)
    out().print()
    out().print(str(found))
    if found.suggestion is not None:
        other = "tenth" if found.recommended == "steepest" else "steepest"
        words = {"tenth": "a tenth of the lowest, the careful choice", "steepest": "the steepest descent"}
        out().print(f"also seen: {getattr(found, other):.1e}, {words[other]}", style="dim")
        out().print(f"train with: --learning-rate {found.suggestion:.1e}")


def print_trials(sweep: "Sweep") -> None:
    """Print the trials, the best first, those that failed with their reason, and where the report is."""
    from rich.table import Table
    from rich.text import Text

    from subgpt.cli.terminal import harmless, out

    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("trial", *sweep.axes, "validation loss", "at step", "training loss", "time"):
        table.add_column(name, justify="right", overflow="fold")
    for place, seen in enumerate(sweep.outcomes[:_TRIALS]):
        values = (seen.values.get(name, "") for name in sweep.axes)
        row = [f"{value:g}" if isinstance(value, float) else harmless(str(value)) for value in values]
        if seen.val_loss is None or seen.order[0]:
            row += [seen.status, "", "", ""]
        else:
            train = "" if seen.train_loss is None else f"{seen.train_loss:.4f}"
            row += [f"{seen.val_loss:.4f}", str(seen.best_step), train, duration(seen.seconds)]
        style = "bold" if place == 0 and not seen.order[0] else "dim" if seen.order[0] else ""
        table.add_row(*(Text(cell, style=style) for cell in (str(seen.trial), *row)))
    out().print(table)
    if len(sweep.outcomes) > _TRIALS:
        out().print(f"and {len(sweep.outcomes) - _TRIALS} more, in results.csv", style="dim")
    for seen in sweep.outcomes:
        if seen.reason:
            out().print(Text(harmless(f"trial {seen.trial} {seen.status}: {seen.reason}"), style="red"))
    out().print(Text(f"report: {sweep.report}", style="dim"))
