"""Processes of trials: begun with their share of the threads, asked to stop, ended."""

import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import subgpt
from subgpt.distributed.launch import without_launcher
from subgpt.search.plan import SweepDirectory

# The package that runs here, not another one that the child might find; what is already in its path stays in its place.
_CODE = (
    "import sys; place = {place!r}; place in sys.path or sys.path.insert(0, place); "
    "from subgpt.search.worker import main; main(sys.argv[1], int(sys.argv[2]))"
)


class _Worker(NamedTuple):
    process: "subprocess.Popen[bytes]"
    log: IO[bytes]


class Pool:
    """Use as a context: what still runs at its end is killed."""

    def __init__(self, directory: SweepDirectory, threads: int) -> None:
        self.directory = directory
        self.threads = threads
        self.asked = False
        self._running: dict[int, _Worker] = {}

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._running.values():
            worker.process.kill()
        for trial in list(self._running):
            self._end(trial)

    def __len__(self) -> int:
        return len(self._running)

    def start(self, trial: int) -> None:
        """Begin a trial in a session of its own: Ctrl-C in the terminal is the sweep's, which passes it on."""
        log = self.directory.log(trial).open("ab")
        place = str(Path(subgpt.__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(place=place), str(self.directory.path), str(trial)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**without_launcher(), "SUBGPT_NUM_THREADS": str(self.threads), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # what Windows has in its place
        )
        self._running[trial] = _Worker(process, log)

    def stop(self) -> None:
        """Ask all to save and end, once; asked again, it does nothing."""
        self.asked = True
        for worker in self._running.values():
            if worker.process.stdin is not None and not worker.process.stdin.closed:
                worker.process.stdin.close()

    def ended(self) -> list[tuple[int, str]]:
        """Give the trials that ended since, each with how, should it have written no outcome."""
        done = [trial for trial, worker in self._running.items() if worker.process.poll() is not None]
        return [(trial, self._end(trial)) for trial in done]

    def _end(self, trial: int) -> str:
        worker = self._running.pop(trial)
        code = worker.process.wait()
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        worker.log.close()
        return _how(code, self.directory.log(trial))


def _how(code: int, log: Path) -> str:
    """Say how a process ended, with the last line that it said."""
    if code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"ended with code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{how}; it said last: {said[:200]}" if said else how
