"""Units, in this process or in several; what comes out is the same."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, TypeAlias

from subgpt import _core
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.reading import Tally, read_unit
from subgpt.data.prepare.stage import Staging, stage_unit
from subgpt.data.prepare.units import Unit
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

Job: TypeAlias = "tuple[int, Unit]"
Told: TypeAlias = Callable[[int], None]

_SECONDS = 0.2
_TOLD_BYTES = 1 << 20


def stage_here(
    jobs: Sequence[Job], staging: Staging, tok: Tokenizer, options: PrepareOptions, told: Told
) -> None:
    """Do units one after the other; the tokenizer's threads share the work on each."""
    for number, unit in jobs:
        stage_counted(number, unit, staging, tok, options, told)


def stage_counted(
    number: int, unit: Unit, staging: Staging, tok: Tokenizer, options: PrepareOptions, told: Told
) -> None:
    """Do a unit; it counts for its size on the disk, whatever its text turns out to be."""
    size, counted, tally = sum(part.size for part in unit), 0, Tally()

    def tell(amount: int) -> None:
        nonlocal counted
        amount = min(amount, size - counted)
        counted += amount
        told(amount)

    found = read_unit(unit, options, staging.folder, tally)
    stage_unit(staging, number, found, tally, tok, options, tell)
    told(size - counted)


def stage_in_processes(
    jobs: Sequence[Job],
    staging: Staging,
    tok: Tokenizer,
    options: PrepareOptions,
    told: Told,
    processes: int,
) -> None:
    """Do units in several processes, each with its share of the threads.

    Raises:
        DataError: A process was ended from outside, for want of memory perhaps; what is finished stays.

    """
    context = get_context("spawn")  # a fork would copy locks of threads that it does not copy
    amounts, stop = context.SimpleQueue(), context.Event()
    threads = max(1, _core.get_num_threads() // processes)
    pool = ProcessPoolExecutor(
        processes, context, initializer=_begin, initargs=(staging, tok, options, amounts, stop, threads)
    )
    waiting = {pool.submit(_work, job) for job in jobs}
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=_SECONDS, return_when=FIRST_COMPLETED)
            told(sum(_drain(amounts)))
            _raise_first(done)
        told(sum(_drain(amounts)))
    except BrokenProcessPool as error:
        raise DataError(
            "a process of the preparation was ended from outside (for want of memory?); run it again to go on, "
            "with fewer processes (--processes 1)"
        ) from error
    finally:
        stop.set()  # those that are left end after the documents they are at
        pool.shutdown(wait=True, cancel_futures=True)


def _raise_first(done: Iterable[Future[None]]) -> None:
    for future in done:
        future.result()


def _drain(amounts: Any) -> Iterable[int]:
    while not amounts.empty():
        yield amounts.get()


_state: dict[str, Any] = {}


def _begin(
    staging: Staging, tok: Tokenizer, options: PrepareOptions, amounts: Any, stop: Any, threads: int
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and tells
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _core.set_num_threads(threads)
    _state.update(staging=staging, tok=tok, options=options, amounts=amounts, stop=stop)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _StoppedError(Exception):
    pass


def _work(job: Job) -> None:
    pending = 0

    def told(amount: int) -> None:
        # Seldom, so that the pipe is never full: nobody empties it while the pool is taken down.
        nonlocal pending
        if _state["stop"].is_set():
            raise _StoppedError
        pending += amount
        if pending >= _TOLD_BYTES:
            _state["amounts"].put(pending)
            pending = 0

    stage_counted(*job, _state["staging"], _state["tok"], _state["options"], told)
    _state["amounts"].put(pending)
