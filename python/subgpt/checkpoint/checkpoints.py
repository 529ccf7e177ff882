"""Checkpoints: everything needed to go on bit for bit, published whole or not at all, and checked when it is read.

A `Draft` is written into a hidden folder, synced, and renamed to `step-000500`; so a name without a dot is complete.
Weights, moments, dropout counter, best loss, patience, what the loss guard knows and the step, which with the batches
that were passed over is the position in the data (order is a pure function of seed and number), are all the state there
is. `state.json` has the SHA-256 of every file beside it, and of itself.

`best-000400` beside them has the weights with the lowest validation loss, and no moments. It stays for as long as a
checkpoint that names it as the best does, so that every checkpoint can be gone on from.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt.checkpoint.checksums import sum_of_file, sum_of_values
from subgpt.checkpoint.draft import FORMAT, OPTIMIZER, Draft
from subgpt.checkpoint.run_directory import naming
from subgpt.checkpoint.trained import load_weights, weights_file
from subgpt.errors import CheckpointError

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.training.optimizers import Optimizer

_NAME = re.compile(r"step-(\d{6,})")
_BEST = re.compile(r"best-(\d{6,})")


_NEWER = frozenset({"recent", "rollbacks", "skipped"})
"""Entries that checkpoints of format 1 do not have."""


class NewerFormatError(CheckpointError):
    """A checkpoint that a newer subgpt wrote: nothing is wrong with it, but it cannot be read here."""


@dataclass
class TrainState:
    """What `state.json` holds beside the tensors.

    step: updates made, and so the position in the data. tokens: targets learnt from (of `dpo`, pairs). seconds: time
    trained over all resumptions. dropout: the generator's seed and counter. best, best_step, without_gain: early
    stopping. settings, model: TrainConfig and GPTConfig as plain values. data, tokenizer: fingerprints.
    recent: the last losses, to which the loss guard compares. rollbacks: how often and why the run went back.
    skipped: batches passed over by that.
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
    recent: list[float] = field(default_factory=list)
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any], place: Path) -> "TrainState":
        """Read the content of the `state.json` in `place`; CheckpointError if entries are missing or odd."""
        try:
            names = {entry.name for entry in fields(cls)} - (_NEWER - values.keys())
            state = cls(**{name: values[name] for name in names})
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


def best_name(step: int) -> str:
    """Name the folder of the weights that were the best after update `step`."""
    return f"best-{step:06d}"


def list_checkpoints(directory: Path) -> list[Path]:
    """List the published checkpoints in `directory`, oldest first."""
    return [path for _, path in sorted(_numbered(directory, _NAME))]


def list_best(directory: Path) -> list[Path]:
    """List the weights in `directory` that were the best, oldest first."""
    return [path for _, path in sorted(_numbered(directory, _BEST))]


def step_of(path: Path) -> int:
    """Read the number of updates off the name of a checkpoint."""
    return int(path.name.partition("-")[2])


def draft_checkpoint(
    directory: Path, model: "GPT", optimizer: "Optimizer", state: TrainState, *, in_memory: bool = True
) -> Draft:
    """Copy what a checkpoint of now holds; its `write` publishes it. Raises OutputError."""
    name = checkpoint_path(directory, state.step).name
    return Draft(directory, name, model, optimizer, asdict(state), in_memory=in_memory)


def prune(directory: Path, keep: int, every: int = 0) -> None:
    """Delete all but the newest `keep` checkpoints, and best weights that none of those left names.

    every: above 0, the newest `keep` of those that were due every so many updates stay as well. A run that goes back
    when its loss breaks has to find the same ones, whether it was interrupted in between or not.
    """
    found = list_checkpoints(directory)
    due = [path for path in found if every and step_of(path) % every == 0]
    kept = {*found[-keep:], *due[-keep:]}
    for path in found:
        if path not in kept:
            discard(path)
    prune_best(directory, ())


def prune_best(directory: Path, also: Iterable[int]) -> None:
    """Delete the best weights that no checkpoint names, and that are not of a step in `also`, nor newer than all."""
    found = sorted(_numbered(directory, _BEST))
    named = set(also)
    for path in list_checkpoints(directory):
        try:
            named.add(json.loads((path / "state.json").read_text(encoding="utf-8"))["best_step"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return  # a damaged one may name any
    for step, path in found[:-1]:
        if step not in named:
            discard(path)


def _numbered(directory: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    if not directory.is_dir():
        return []
    return [
        (int(m[1]), path)
        for path in directory.iterdir()
        if (m := pattern.fullmatch(path.name)) and path.is_dir()
    ]


def newest_checkpoint(
    directory: Path, warn: Callable[[str], None], among: Callable[[int], bool] | None = None
) -> tuple[Path, TrainState] | None:
    """Find the newest checkpoint whose files are what was written, and its state; None if there never was one.

    among: tells of a step whether its checkpoint may be taken; None for all. Broken ones are set aside, see
    `set_aside`. If all are broken, CheckpointError; None if all that may be taken are. NewerFormatError for one that
    a newer subgpt wrote, which stays.
    """
    found = [path for path in list_checkpoints(directory) if among is None or among(step_of(path))]
    for path in reversed(found):
        try:
            return path, read_state(path)
        except NewerFormatError:
            raise
        except CheckpointError as error:
            set_aside(path, error, warn)
    if among is None and (found or any(directory.glob("step-*.broken"))):
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
    """Read the `state.json` of the checkpoint at `path`, after checking that its files are what was written."""
    values = verify(path)
    if OPTIMIZER not in values["sizes"]:
        raise CheckpointError(
            f"{path / 'state.json'}: names other files than a checkpoint has; it is damaged"
        )
    return TrainState.from_dict(values, path)


def verify(path: Path) -> dict[str, Any]:
    """Give what `state.json` at `path` holds; CheckpointError naming the file that is not what was written."""
    place = path / "state.json"
    try:
        values = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{place}: {error}; the checkpoint is incomplete") from None
    number = values.get("format") if isinstance(values, dict) else None
    if type(number) is int and number > FORMAT:
        raise NewerFormatError(
            f"{place}: has format {number}, and this subgpt knows those up to {FORMAT}; install a newer one, or remove "
            "the checkpoint to go on from the one before"
        )
    if not isinstance(values, dict) or number not in (1, FORMAT):
        raise CheckpointError(f"{place}: not a checkpoint of format {FORMAT}; it is damaged")
    sizes, sums = values.get("sizes"), values.get("sha256", {})
    if not isinstance(sizes, dict) or not isinstance(sums, dict) or len(sizes) < 2:
        raise CheckpointError(f"{place}: names other files than a checkpoint has; it is damaged")
    if values["format"] != 1 or "checksum" in values:
        given = values.pop("checksum", None)
        if given != sum_of_values(values) or sizes.keys() != sums.keys():
            raise CheckpointError(
                f"{place}: is not what was written (its checksum is another); it is damaged"
            )
    for name, size in sizes.items():
        _check_file(path / name, size, sums.get(name))
    return values


def check_opened(path: Path) -> None:
    """Raise CheckpointError if `path` is a checkpoint that is not what was written, pointing to one that is."""
    if not (_NAME.fullmatch(path.name) or _BEST.fullmatch(path.name)):
        return
    try:
        verify(path)
    except NewerFormatError:
        raise
    except CheckpointError as error:
        for other in reversed(list_checkpoints(path.parent)):
            if other.name != path.name and _is_whole(other):
                raise CheckpointError(f"{error}; {other} is whole, open that") from None
        raise


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except CheckpointError:
        return False
    return True


def _check_file(file: Path, size: Any, expected: str | None) -> None:
    try:
        real = file.stat().st_size if file.is_file() else -1
        if real != size:
            raise CheckpointError(
                f"{file}: {max(real, 0)} bytes, expected {size}; the file is cut off or missing"
            )
        if expected is not None and sum_of_file(file) != expected:
            raise CheckpointError(f"{file}: is not what was written (its SHA-256 is another); it is damaged")
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror or error}; check the disk") from error


def restore(path: Path, state: TrainState, model: "GPT", optimizer: "Optimizer") -> None:
    """Load what is trained, moments and dropout counter; CheckpointError if a file is not what it should be."""
    load_weights(model, path / weights_file(model))
    optimizer.native.load_safetensors(str(path / OPTIMIZER), model.native)
    model.native.dropout_state = state.dropout


def sweep(directory: Path) -> None:
    """Remove what a killed run left half written or half deleted."""
    for pattern in (".step-*", ".best-*"):
        for path in directory.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a checkpoint; hidden first, so that half of one is never taken for one."""
    hidden = path.with_name(f".{path.name}.old-{os.getpid()}")
    with naming(path):
        path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)
