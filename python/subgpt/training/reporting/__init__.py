"""Where else a run is written down, beside `metrics.jsonl`: `TrainConfig.report_to`, one callback a place.

A module each: `table` is a CSV file, `tensorboard` and `wandb` speak to the libraries of those names. The library is
looked for before anything is trained, so that a night of training does not end without its curves.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.training.callbacks import Callback
    from subgpt.training.config import TrainConfig

PLACES = ("jsonl", "csv", "tensorboard", "wandb")
"""What `report_to` may name; "none" is none of them, and jsonl is written in any case."""


def places(report_to: str) -> tuple[str, ...]:
    """Split what `report_to` names, in the order of `PLACES`; ValueError for a name that is unknown.

    >>> places("tensorboard, csv"), places("none"), places("")
    (('csv', 'tensorboard'), (), ())
    """
    named = {word.strip() for word in report_to.split(",")} - {"", "none"}
    for name in sorted(named):
        if name not in PLACES:
            raise ValueError(f"there is no {name!r} to report to; {did_you_mean(name, [*PLACES, 'none'])}")
    return tuple(name for name in PLACES if name in named)


def reporters(config: "TrainConfig") -> "Sequence[Callback]":
    """Make the callbacks that `config.report_to` asks for.

    Raises MissingExtraError with the line to type where a library is not installed, ConfigError where files are asked
    for and there is no run directory to put them in.
    """
    asked = [name for name in places(config.report_to) if name != "jsonl"]
    if config.output_dir is None and (files := [name for name in asked if name != "wandb"]):
        raise ConfigError(
            f"report_to = {','.join(files)} writes into the run directory; give output_dir as well"
        )
    return [_maker(name)(config) for name in asked]


def _maker(name: str) -> "Callable[[TrainConfig], Callback]":
    """Find the callback's class; its module is loaded only when it is asked for."""
    if name == "csv":
        from subgpt.training.reporting.table import CsvReporter

        return CsvReporter
    if name == "tensorboard":
        from subgpt.training.reporting.tensorboard import TensorBoardReporter

        return TensorBoardReporter
    from subgpt.training.reporting.wandb import WandbReporter

    return WandbReporter
