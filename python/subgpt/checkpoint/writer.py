"""Writes to the disk while training goes on: one thread, in the order in which it was asked.

What fails there is raised by the next call from the run's own thread; it never vanishes.
"""

import queue
import threading
from collections.abc import Callable
from pathlib import Path

from subgpt.checkpoint.checksums import CancelledError

Cancelled = Callable[[], bool]
"""Says whether what is being written is called off."""
Write = Callable[[Cancelled], Path]
"""Writes something and gives its path; asks now and then whether it is called off."""

_WAITING = 2
"""Jobs that may wait, so that copies in memory do not pile up behind a slow disk."""


class BackgroundWriter:
    """`submit` jobs, `poll` between steps, `wait` where all must be on the disk, `close` at the end.

    All four raise what a job raised, once; nothing is written after that.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[tuple[Write, Callable[[Path], None]] | None] = queue.Queue(_WAITING)
        self._written: list[tuple[Callable[[Path], None], Path]] = []
        self._failure: BaseException | None = None
        self._stopped = False
        self._cancelled = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, write: Write, done: Callable[[Path], None]) -> None:
        """Have `write` called, and `done` with its path from a later call of this object, in the caller's thread."""
        self.poll()
        if self._thread is None:
            # A daemon: a process that is told to end at once does not wait for a slow disk.
            self._thread = threading.Thread(target=self._work, name="subgpt-writer", daemon=True)
            self._thread.start()
        self._jobs.put((write, done))

    def poll(self) -> None:
        """Tell of what was written since the last call, and raise what failed."""
        with self._lock:
            written, self._written = self._written, []
            failure, self._failure = self._failure, None
        for done, path in written:
            done(path)
        if failure is not None:
            raise failure

    def wait(self) -> None:
        """Return when everything is on the disk."""
        self._jobs.join()
        self.poll()

    def close(self) -> None:
        """Wait for what is being written; a Ctrl-C meanwhile calls it off."""
        if self._thread is None:
            return
        try:
            self.wait()
        except KeyboardInterrupt:
            self._cancelled = True
            self._jobs.join()
            raise
        finally:
            thread, self._thread = self._thread, None
            self._jobs.put(None)
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            write, done = job
            try:
                path = write(lambda: self._stopped or self._cancelled)
                with self._lock:
                    self._written.append((done, path))
            except CancelledError:
                pass
            except BaseException as error:
                with self._lock:
                    self._failure, self._stopped = error, True
            finally:
                self._jobs.task_done()
                del job, write, done  # what they hold, a copy in memory, goes now and not with the next job
