"""What `pretrain` and `finetune` share: settings from everywhere, shown and kept; the run, watched."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.cli.loading import source_paths
from subgpt.cli.outcome import INTERRUPTED
from subgpt.cli.settings import Setting, resolve, settings_of
from subgpt.cli.terminal import note
from subgpt.distributed.launch import from_main
from subgpt.errors import CheckpointError, ConfigError
from subgpt.model.dtype import AUTO
from subgpt.places import expanded
from subgpt.training.config import TrainConfig

if TYPE_CHECKING:
    from subgpt.training.callbacks import RunStart
    from subgpt.training.run import Run

TRAIN_NAMES = tuple(name for name in TrainConfig.model_fields if name != "output_dir")

# The settings that say what of a model is trained.
METHOD = (
    "freeze", "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "quantize_base",
)  # fmt: skip


# How several processes share a run.
TEAM = ("zero_stage", "gradient_compression", "bucket_megabytes", "peer_timeout")


def team_settings() -> list[Setting]:
    """List the flags of a run that several processes make: they have a panel of their own."""
    return settings_of(TrainConfig, "Several processes (mpirun)", only=TEAM)


def tuning_settings(defaults: Mapping[str, Any], leave_out: Iterable[str] = ()) -> list[Setting]:
    """List the flags of a run that changes a model which can write already: what it trains has a panel of its own."""
    train = settings_of(
        TrainConfig,
        "Training",
        leave_out=["output_dir", *METHOD, *TEAM, *leave_out],
        defaults={**defaults, "dtype": AUTO},
    )
    method = settings_of(TrainConfig, "Adapters and frozen weights", only=METHOD)
    return [*train, *method, *team_settings()]


@dataclass(frozen=True)
class Inputs:
    """The settings that a file or a command may name beside the training ones; paths as they were given."""

    values: dict[str, Any]

    def need(self, name: str, what: str) -> Any:
        """Give the value of `name`, or say which option it lacks."""
        if self.values.get(name) in (None, [], ""):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} is missing: {what}")
        return self.values[name]

    def sources(self, name: str) -> list[Path]:
        """Give the files, directories and globs of `name`; [] if there are none."""
        value = self.values.get(name) or []
        if isinstance(value, Mapping):  # in a file of settings: each with its weight
            value = [f"{source}:{weight}" for source, weight in value.items()]
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, Sequence) or not all(isinstance(one, str) for one in names):
            raise ConfigError(f"{name} = {value!r}: give a file, directory or glob, or a list of these")
        return source_paths(names)

    def number(self, name: str, otherwise: float) -> float:
        """Give the number of `name`, `otherwise` where there is none."""
        value = self.values.get(name)
        try:
            return otherwise if value is None else float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{name} = {value!r}: give a number") from None

    def path(self, name: str, what: str) -> str:
        """Give the path of `name`, which may not be absent."""
        value = self.need(name, what)
        if not isinstance(value, str | Path):
            raise ConfigError(f"{name} = {value!r} is no path; {what}")
        return str(value)

    def part(self, names: Iterable[str]) -> dict[str, Any]:
        """Give those of `names` that have a value."""
        return {name: self.values[name] for name in names if name in self.values}


def gather(
    file: Path | None,
    flags: Mapping[str, Any],
    *,
    output: Path,
    resume: bool,
    known: Iterable[str],
    sections: Sequence[str] = ("train", "inputs"),
) -> Inputs:
    """Put together what a run is made with: its own saved settings if it is resumed, the file, the flags."""
    names = [*known, *TRAIN_NAMES, "output_dir"]
    values: dict[str, Any] = {}
    if resume:  # only the main one of several processes needs the directory
        values = from_main(lambda: _saved(RunDirectory(output), names, sections))
    values |= with_absolute_template(resolve(file, flags, names, TrainConfig, sections))
    values.pop("output_dir", None)
    return Inputs(values)


def _saved(directory: RunDirectory, names: Sequence[str], sections: Sequence[str]) -> dict[str, Any]:
    """Read the settings of a run that goes on."""
    if not directory.training.is_dir():
        raise CheckpointError(
            f"{directory.path}: no run to resume there; check -o, or start without --resume"
        )
    if not directory.settings.is_file():
        return {}
    return resolve(directory.settings, {}, names, TrainConfig, sections)


def print_run(run: "Run", *, json: bool) -> int:
    """Print what came of a run, and give its exit code: what it changed for people, everything for scripts."""
    from subgpt.cli.probing import print_probes
    from subgpt.cli.tables import print_changes
    from subgpt.cli.terminal import print_json

    if json:
        print_json(_as_json(run))
    else:
        print_changes(run)
        print_probes(run)
    return INTERRUPTED if run.interrupted else 0


def _as_json(run: "Run") -> dict[str, Any]:
    from subgpt.cli.probing import as_json

    probes = {
        when: as_json({name: seen for name, change in run.probes.items() if (seen := getattr(change, when))})
        for when in ("before", "after")
    }
    return {
        "output_dir": None if run.output_dir is None else str(run.output_dir),
        "steps": run.step,
        "max_steps": run.max_steps,
        "seconds": run.seconds,
        "tokens": run.tokens,
        "loss": run.losses[-1] if run.losses else None,
        "val_loss": run.val_losses[-1] if run.val_losses else None,
        "best_val_loss": run.best if run.val_losses else None,
        "best_step": run.best_step if run.val_losses else None,
        "interrupted": run.interrupted,
        "stopped_early": run.stopped_early,
        "rollbacks": len(run.rollbacks),
        "before": {name: asdict(seen) for name, seen in run.before.items()},
        "after": {name: asdict(seen) for name, seen in run.after.items()},
        "probes": probes,
    }


def keep(inputs: Mapping[str, Any]) -> "Callable[[RunStart], None]":
    """Make what is called when a run starts: it shows the settings, and adds the inputs to its config.yaml.

    So `--resume` and `--config` find data and tokenizer again.
    """
    named = {name: absolute(value) for name, value in inputs.items() if value is not None}

    def started(start: "RunStart") -> None:
        import yaml

        if start.output_dir is None:
            return
        path = RunDirectory(start.output_dir).settings
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        text = yaml.safe_dump({**values, "inputs": named}, sort_keys=False, allow_unicode=True)
        _core.write_atomic(str(path), text.encode())
        show_settings(values)

    return started


def show_settings(values: Mapping[str, Any]) -> None:
    """Print the resolved settings, one paragraph a section."""
    for section in ("model", "train"):
        words = [f"{k}={v}" for k, v in values.get(section, {}).items() if v not in (None, "")]
        note(f"{section}: {' '.join(words)}")


def with_absolute_template(values: dict[str, Any]) -> dict[str, Any]:
    """Make the file of a chat template, if the settings name one, independent of the working directory."""
    from subgpt.data.chat import absolute_choice

    asked = values.get("chat_template")
    return {**values, "chat_template": absolute_choice(asked)} if isinstance(asked, str) else values


def absolute(value: Any) -> Any:
    """Make a path, or each of several or of a mapping, independent of the working directory; globs stay globs.

    A number is no path, and stays what it is.
    """
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        numbers = all(isinstance(entry, int | float) for entry in value.values())
        return {absolute(k) if numbers else k: v if numbers else absolute(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [absolute(entry) for entry in value]
    return str(expanded(value).resolve())
