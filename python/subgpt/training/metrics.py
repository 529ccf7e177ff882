"""`metrics.jsonl`: one JSON object a line, appended while the run goes on, readable by anything.

A training line has step, loss, learning_rate, grad_norm, tokens_per_second, seconds; a validation line step,
val_loss, val_perplexity, val_bits_per_byte, seconds. `step` is the number of updates made; losses are nats
per token; `seconds` counts from the start of the run over all resumptions. Losses and speed of `dpo` are of pairs, and
val_perplexity is null there, as it is where it is beyond all numbers. On resume, lines beyond the checkpoint's step are
dropped, so that no step occurs twice; at step 0 all are, as the run validates there again.

When a loss left its course and the run went back, its lines beyond the checkpoint are dropped, too, and one line says
so: `rollback` (its number from 1), `step` (to which it went back), spike_step, spike_loss, z_score (null for what was
not finite), tensor, skipped (batches passed over), reason.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from subgpt import _core
from subgpt.errors import OutputError
from subgpt.finite import finite


class MetricsFile:
    """The open file of a run. Lines reach the system at once; `sync` makes them survive a power cut."""

    def __init__(self, path: Path, *, keep_to_step: int, rollbacks: int = 0) -> None:
        self.path = path
        self._file = self._open(keep_to_step, rollbacks)

    def rewind(self, step: int, rollbacks: int) -> None:
        """Drop the lines beyond `step`, but for those of the first `rollbacks`, of which all are kept."""
        self.close()
        self._file = self._open(step, rollbacks)

    def write(self, record: dict[str, Any]) -> None:
        """Append one line."""
        with self._named():
            self._file.write(json.dumps(finite(record)) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Wait until what was written is on the disk, which some systems find to be full only now."""
        with self._named():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what a full disk did not take was complained of when it was written."""
        with suppress(OSError):
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}; free some space and resume") from error

    def _open(self, step: int, rollbacks: int) -> IO[str]:
        """Keep the lines up to `step`: all others were written by a future that did not happen.

        Of step 0 none is kept: a run that begins there validates anew. Rollbacks have happened in any case, and are
        kept by their number: a later one may go back further.
        """
        if self.path.exists():
            kept = [
                json.dumps(record) + "\n"
                for record in read_metrics(self.path)
                if (
                    record["rollback"] <= rollbacks
                    if "rollback" in record
                    else step > 0 and record["step"] <= step
                )
            ]
            _core.write_atomic(str(self.path), "".join(kept).encode())
        try:
            return self.path.open("a", encoding="utf-8", newline="\n")
        except OSError as error:
            raise OutputError(
                f"{self.path}: {error.strerror}; choose an output_dir that can be written"
            ) from error


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read every whole line of a `metrics.jsonl`; a last line cut off by a crash is left out."""
    return parse_metrics(Path(path).read_text(encoding="utf-8", errors="replace"))


def has_steps(path: Path) -> bool:
    """Tell whether a run came to its first update; one that ended before has nothing to lose."""
    return path.exists() and any(record["step"] > 0 for record in read_metrics(path))


def parse_metrics(text: str) -> list[dict[str, Any]]:
    """Read the lines of a `metrics.jsonl`, leaving out what is no record."""
    records = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and _is_whole(record):
            records.append(record)
    return records


def _is_whole(record: dict[str, Any]) -> bool:
    """Tell whether a line has all that one of its kind has; somebody else may write to the file as well."""
    counts = [record.get("step"), record.get("rollback", 0)]
    wanted = ("loss", "learning_rate", "grad_norm") if "loss" in record else ()
    numbers = [record.get(name) for name in (*wanted, *record.keys() & {"val_loss", "seconds"})]
    return all(type(count) is int for count in counts) and all(type(x) in (int, float) for x in numbers)
