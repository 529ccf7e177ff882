"""Checkpoints: everything needed to go on bit for bit, published whole or not at all.

A checkpoint is written into a hidden folder, synced, and renamed to `step-000500`; so a name without a dot is
complete. Weights, moments, dropout counter, best loss, patience and the step, which is the position in the
data (order is a pure function of seed and step), are all the state there is.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.checkpoint.run_directory import naming, write_json
from subgpt.checkpoint.trained import load_weights, save_weights, weights_file, write_config
from subgpt.errors import CheckpointError

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.training.optimizers import Optimizer

FORMAT = 1
_NAME = re.compile(r"step-(\d{6,})")
_OPTIMIZER = "optimizer.safetensors"


@dataclass
class TrainState:
    """What `state.json` holds beside the tensors.

    step: updates made, and so the position in the data. tokens: targets learnt from. seconds: time trained
    over all resumptions. dropout: the generator's seed and counter. best, best_step, without_gain: early
    stopping. settings, model: TrainConfig and GPTConfig as plain values. data, tokenizer: fingerprints.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    dropout: tuple[int, int] = (0, 0)
    best: float | None = None
    best_step: int = 0
    without_gain: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    tokenizer: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any], place: Path) -> "TrainState":
        """Read the content of the `state.json` in `place`; CheckpointError if entries are missing or odd."""
        try:
            state = cls(**{entry.name: values[entry.name] for entry in fields(cls)})
            seed, counter = state.dropout
            state.dropout = (int(seed), int(counter))
            if state.step < 0:
                raise ValueError("a negative step")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{place / 'state.json'}: entry missing or odd: {error}") from None
        return state

    @property
    def best_loss(self) -> float:
        """`best` as a number: infinite before the first validation."""
        return math.inf if self.best is None else self.best


def checkpoint_path(directory: Path, step: int) -> Path:
    """Tell where the checkpoint after update `step` lies."""
    return directory / f"step-{step:06d}"


def list_checkpoints(directory: Path) -> list[Path]:
    """List the published checkpoints in `directory`, oldest first."""
    if not directory.is_dir():
        return []
    found = [
        (int(m[1]), path)
        for path in directory.iterdir()
        if (m := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return [path for _, path in sorted(found)]


def save_checkpoint(
    directory: Path, model: "GPT", optimizer: "Optimizer", state: TrainState, keep: int
) -> Path:
    """Write and publish a checkpoint, then delete all but the newest `keep`; returns its path.

    A checkpoint of this very step is the one that the run was resumed from, and stays. Raises OutputError if
    the disk is full or not writable; earlier checkpoints are then untouched.
    """
    final = checkpoint_path(directory, state.step)
    if final.exists():
        return final
    temporary = directory / f".{final.name}.tmp-{os.getpid()}"
    with naming(final):
        try:
            temporary.mkdir(parents=True)
            files = (weights_file(model), _OPTIMIZER)
            save_weights(model, temporary / files[0])
            optimizer.native.save_safetensors(str(temporary / _OPTIMIZER), model.native)
            write_config(model, temporary)
            sizes = {name: (temporary / name).stat().st_size for name in files}
            about = {"format": FORMAT, "subgpt_version": _core.__version__, "sizes": sizes}
            write_json(temporary / "state.json", {**about, **asdict(state)})
            _core.publish_directory(str(temporary), str(final))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for old in list_checkpoints(directory)[:-keep]:
            _discard(old)
    return final


def newest_checkpoint(directory: Path, warn: Callable[[str], None]) -> tuple[Path, TrainState] | None:
    """Find the newest checkpoint whose files are whole, and its state; None if there never was one.

    Broken ones are set aside, see `set_aside`. If all are broken, CheckpointError.
    """
    found = list_checkpoints(directory)
    for path in reversed(found):
        try:
            return path, read_state(path)
        except CheckpointError as error:
            set_aside(path, error, warn)
    if found or any(directory.glob("*.broken")):
        raise CheckpointError(f"{directory}: none of its checkpoints can be read; start the run anew")
    return None


def set_aside(path: Path, error: Exception, warn: Callable[[str], None]) -> None:
    """Rename a broken checkpoint to `….broken`, out of the way of resuming and of pruning, and say so."""
    broken = path.with_name(f"{path.name}.broken")
    shutil.rmtree(broken, ignore_errors=True)
    with naming(path):
        path.rename(broken)
    warn(f"checkpoint {path.name} cannot be used and is now {broken.name}: {error}")


def read_state(path: Path) -> TrainState:
    """Read the `state.json` of the checkpoint at `path`, after checking that its files are whole."""
    try:
        values = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / 'state.json'}: {error}; the checkpoint is incomplete") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / 'state.json'}: not a checkpoint of format {FORMAT}; use the subgpt that wrote it"
        )
    sizes = values.get("sizes")
    if not isinstance(sizes, dict) or _OPTIMIZER not in sizes or len(sizes) != 2:
        raise CheckpointError(
            f"{path / 'state.json'}: names other files than a checkpoint has; it is damaged"
        )
    for name, size in sizes.items():
        real = (path / name).stat().st_size if (path / name).is_file() else -1
        if real != size:
            raise CheckpointError(
                f"{path / name}: {max(real, 0)} bytes, expected {size}; the file is cut off or missing"
            )
    return TrainState.from_dict(values, path)


def restore(path: Path, state: TrainState, model: "GPT", optimizer: "Optimizer") -> None:
    """Load what is trained, moments and dropout counter; CheckpointError if a file is not what it should be."""
    load_weights(model, path / weights_file(model))
    optimizer.native.load_safetensors(str(path / _OPTIMIZER), model.native)
    model.native.dropout_state = state.dropout


def sweep(directory: Path) -> None:
    """Remove what a killed run left half written or half deleted."""
    for path in directory.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _discard(path: Path) -> None:
    """Delete a checkpoint; hidden first, so that half of one is never taken for one."""
    hidden = path.with_name(f".{path.name}.old-{os.getpid()}")
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
