"""The runs of a folder, and the course of one of them, read as it grows."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.checkpoints import list_checkpoints
from subgpt.checkpoint.lock import holder_is_alive
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.errors import MissingFileError
from subgpt.playground.limits import MAX_RUNS
from subgpt.playground.views.texts import folders_with
from subgpt.training.metrics import parse_metrics, read_metrics
from subgpt.training.run import Run
from subgpt.units import duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from subgpt.serving.models import Served


def find_runs(served: "Iterable[Served]", runs: Path | None) -> dict[str, Path]:
    """Name the runs that can be looked at: those two levels below `runs`, and those of served models; newest first."""
    found = {path.resolve(): path for path in folders_with(runs, "training/metrics.jsonl")}
    for one in served:
        if RunDirectory(one.run).metrics.is_file():
            found.setdefault(one.run.resolve(), one.run)
    named: dict[str, Path] = {}
    for path in sorted(found.values(), key=_changed, reverse=True)[:MAX_RUNS]:
        inside = runs is not None and path != runs and path.is_relative_to(runs)
        name = path.relative_to(runs).as_posix() if inside and runs is not None else path.resolve().name
        while name in named:
            name += " (another)"
        named[name] = path
    return named


@dataclass
class Course:
    """A run that is followed: `read` takes in what was written since the last time.

    Attributes:
        path: The run directory.
        run: What is known so far.
        settings: What `training/config.yaml` says, {} without one.
        last: The newest line of an update.
        samples: What the model wrote on the way: step, prompt and text.

    """

    path: Path
    run: Run = field(default_factory=Run)
    settings: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    _offset: int = 0
    _file: int = 0
    _state: tuple[str, int] = ("", -1)

    def read(self) -> bool:
        """Read the new lines; tell whether anything is different. A run that began anew is read from its beginning."""
        files = RunDirectory(self.path)
        found = files.metrics.stat() if files.metrics.is_file() else None
        size = 0 if found is None else found.st_size
        replaced = found is not None and self._file not in (
            0,
            found.st_ino,
        )  # resumed, or gone back to a checkpoint
        self._file = self._file if found is None else found.st_ino
        began_anew = size < self._offset or replaced
        if began_anew:
            self.run, self.last, self.settings, self.samples, self._offset = Run(), {}, {}, [], 0
            self._state = ("", -1)  # the samples are read again, even if there are as many as before
        if not self.settings:
            self.settings = _yaml(files.settings)
        grown = self._read_on(files.metrics) if size > self._offset else False
        kept = files.samples.stat().st_size if files.samples.is_file() else 0
        state = (self.state, kept)
        if kept and kept != self._state[1]:
            self.samples = [record for record in read_metrics(files.samples) if "text" in record]
        changed, self._state = began_anew or grown or state != self._state, state
        return changed

    def _read_on(self, path: Path) -> bool:
        """Take in whole lines; half of one is left for the next time."""
        with path.open("rb") as file:
            file.seek(self._offset)
            raw = file.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        self._offset += len(whole)
        for record in parse_metrics(whole.decode("utf-8", "replace")):
            self.run.add(record)
            self.last = record if "loss" in record else self.last
        return bool(whole)

    @property
    def state(self) -> str:
        """Whether it is being trained, as its lock says; taking the lock could hinder a run."""
        if holder_is_alive(RunDirectory(self.path).lock):
            return "training"
        most = self.max_steps
        return "finished" if most and self.run.step >= most else "not running"

    @property
    def max_steps(self) -> int:
        """How many updates it is to have; 0 if nothing says so."""
        most = _section(self.settings, "train").get("max_steps")
        return most if isinstance(most, int) else 0

    def facts(self) -> list[tuple[str, str]]:
        """Write what is known of the run for people, name and value."""
        run, most = self.run, self.max_steps
        steps = f"{run.step:,} of {most:,}" if most else f"{run.step:,}"
        facts = [("state", self.state), ("updates", steps), ("time", duration(run.seconds))]
        if self.last and most > run.step and self.state == "training":
            facts.append(("left, about", duration(run.seconds / max(run.step, 1) * (most - run.step))))
        if run.losses:
            facts.append(("training loss", f"{run.losses[-1]:.3f}"))
        if run.val_losses:
            facts.append(("best held-out loss", f"{run.best:.3f} at {run.best_step:,}"))
        if speed := self.last.get("tokens_per_second"):
            unit = "pairs" if self.settings.get("verb") == "dpo" else "tokens"
            facts.append((f"{unit} a second", f"{speed:,.0f}"))
        shape = _section(self.settings, "model")
        if {"n_layer", "n_embd"} <= shape.keys():
            facts.append(("model", f"{shape['n_layer']} layers, {shape['n_embd']} wide"))
        made = [str(self.settings["verb"])] if "verb" in self.settings else []
        train = _section(self.settings, "train")
        made += [str(train[name]) for name in ("optimizer", "dtype") if name in train]
        return [*facts, ("made by", ", ".join(made))] if made else facts


def newest_model(path: Path) -> tuple[Path, str]:
    """Find what a run has last saved, a whole model or a checkpoint, and say which. MissingFileError if neither."""
    files = RunDirectory(path)
    checkpoints = list_checkpoints(files.checkpoints)
    whole = next((file for file in (files.weights, files.adapter) if file.is_file()), None)
    if checkpoints and (whole is None or _changed(checkpoints[-1]) > whole.stat().st_mtime):
        return checkpoints[-1], checkpoints[-1].name
    if whole is None:
        raise MissingFileError(
            f"{path.name}: has saved no model yet; save_steps (--save-steps) saves one on the way"
        )
    return path, "the saved model"


def _changed(path: Path) -> float:
    file = RunDirectory(path).metrics
    return (file if file.is_file() else path).stat().st_mtime


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, dict) else {}
