"""A checkpoint in the making: copied while the run waits, written and published while it goes on.

The order on the disk is what makes it whole or not there, whenever the power goes: every file under a hidden name and
synced, then `state.json` with the sums of the others and of itself, then the one rename that gives the folder its name,
then the folder above it synced.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from subgpt import _core
from subgpt.checkpoint.checksums import CancelledError, copy_with_sum, sum_of_file, sum_of_values
from subgpt.checkpoint.run_directory import naming, write_json
from subgpt.checkpoint.staging import memory_folder
from subgpt.checkpoint.trained import config_file, save_weights, weights_file, write_config
from subgpt.errors import SubgptError

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.training.optimizers import Optimizer

FORMAT = 2
"""Of `state.json`. 2 has sums; 1, without them, is still read."""
OPTIMIZER = "optimizer.safetensors"


class Draft:
    """The content of one checkpoint as it is now; `write` may come later, in another thread.

    directory: where it will lie, under `name`; it is there. optimizer: None leaves its moments out. state: what
    `state.json` is to hold besides. in_memory: False copies to the disk at once.
    Raises OutputError if the copy cannot be made; then nothing is left of it.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        model: "GPT",
        optimizer: "Optimizer | None",
        state: dict[str, Any],
        *,
        in_memory: bool = True,
    ) -> None:
        self.directory, self.name, self.model = directory, name, model
        self.state = {"format": FORMAT, "subgpt_version": _core.__version__, **state}
        self._open: dict[str, IO[bytes]] = {}
        self._close = ExitStack()
        self._staged = self.temporary(directory)
        with naming(directory / name):
            try:
                if not (in_memory and self._copy_to_memory(optimizer)):
                    self._copy(self._staged, optimizer)
            except BaseException:
                self.discard()
                raise

    def temporary(self, directory: Path) -> Path:
        """Name the hidden folder in which it grows."""
        return directory / f".{self.name}.tmp-{os.getpid()}"

    def write(self, directory: Path, cancelled: Callable[[], bool] = lambda: False) -> Path:
        """Bring it to the disk in `directory` and publish it there; gives its path.

        One that is there under this name is replaced. Raises OutputError, or CancelledError once `cancelled` says so;
        whatever happens, the name has all of the old or all of the new. What failed may be tried again where the copy
        is in memory; `discard` what is not.
        """
        final, temporary = directory / self.name, self.temporary(directory)
        with naming(final):
            try:
                if cancelled():
                    raise CancelledError(str(final))
                temporary.mkdir(exist_ok=True)  # and no folder above it, which was moved
                sums = self._fill(temporary, cancelled)
                write_config(self.model, temporary)
                sums[config_file(self.model)] = sum_of_file(temporary / config_file(self.model))
                sizes = {name: (temporary / name).stat().st_size for name in sums}
                values = {**self.state, "sizes": sizes, "sha256": sums}
                write_json(temporary / "state.json", {**values, "checksum": sum_of_values(values)})
                _core.publish_directory(str(temporary), str(final))
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
        self._close.close()
        return final

    def discard(self) -> None:
        """Give back what the copy takes."""
        self._close.close()
        shutil.rmtree(self._staged, ignore_errors=True)

    def _copy(self, place: Path, optimizer: "Optimizer | None") -> None:
        place.mkdir(exist_ok=True)
        save_weights(self.model, place / weights_file(self.model))
        if optimizer is not None:
            optimizer.native.save_safetensors(str(place / OPTIMIZER), self.model.native)

    def _copy_to_memory(self, optimizer: "Optimizer | None") -> bool:
        """Copy, and keep the files open, which may then lose their names; tell whether there was room."""
        folder = memory_folder(_size(self.model, optimizer))
        if folder is None:
            return False
        try:
            self._copy(folder, optimizer)
            for path in sorted(folder.iterdir()):
                self._open[path.name] = self._close.enter_context(path.open("rb"))
        except (SubgptError, OSError):  # others may have taken the room meanwhile
            self._open.clear()
            self._close.close()
            return False
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _fill(self, temporary: Path, cancelled: Callable[[], bool]) -> dict[str, str]:
        """Give the sums of the files of the copy, which lie in `temporary` afterwards."""
        if self._open:
            return {
                name: copy_with_sum(file, temporary / name, cancelled) for name, file in self._open.items()
            }
        weights, optimizer = temporary / weights_file(self.model), temporary / OPTIMIZER
        copied = [weights, *([optimizer] if optimizer.exists() else [])]
        return {path.name: sum_of_file(path) for path in copied}


def _size(model: "GPT", optimizer: "Optimizer | None") -> int:
    """Give the bytes that a copy takes at most: weights, with two moments for each that is trained."""
    trained = model.num_trained()
    weights = model.num_params() if model.active_adapter is None else trained
    return 4 * (weights + (0 if optimizer is None else 2 * trained)) + (1 << 20)
