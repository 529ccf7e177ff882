"""Units as tasks of a cluster; what comes out is what comes out here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from subgpt.cluster import Cluster, Link, LostError, NotBegunError, Tasks
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.pool import Job, Told, stage_counted
from subgpt.data.prepare.stage import Staging
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

_SECONDS = 0.2
_STOP_SECONDS = 30.0


def stage_on_cluster(
    jobs: Sequence[Job],
    staging: Staging,
    tok: Tokenizer,
    options: PrepareOptions,
    told: Told,
    processes: int,
    cluster: Cluster,
) -> None:
    """Do units on the machines of a cluster, so many at a time; one whose machine is lost is done on another.

    Raises:
        DataError: A unit was lost again and again; what is finished stays.

    """
    with Tasks(cluster, cluster.threads(processes)) as tasks:
        shared, waiting, before = tasks.share(tok), list(reversed(jobs)), 0
        try:
            while waiting or len(tasks):
                while waiting and len(tasks) < processes:
                    job = waiting.pop()
                    tasks.start(job[0], _work, job, staging, shared, options)
                ended = tasks.ended(_SECONDS)
                now = sum(tasks.seen().values())
                told(now - before)
                before = now
                for _, error in ended:
                    _raise(error)
        finally:
            _wind_down(tasks)


def _raise(error: Exception | None) -> None:
    if isinstance(error, LostError):
        raise DataError(
            f"a unit of the preparation could not be done: {error} (for want of memory?); run it again to go on, with "
            "fewer processes (--processes)"
        ) from error
    if error is not None:
        raise error


def _wind_down(tasks: Tasks) -> None:
    """Let those that are left end after the documents they are at."""
    if not len(tasks):
        return
    tasks.stop()
    left = _STOP_SECONDS
    while len(tasks) and left > 0:
        tasks.ended(_SECONDS)
        left -= _SECONDS


def _work(link: Link, job: Job, staging: Staging, tok: Tokenizer, options: PrepareOptions) -> None:
    """Do a unit in the process of a task."""
    if staging.done(job[0]).exists():
        return  # its process was lost after the last word

    def told(amount: int) -> None:
        if link.tell(amount):
            raise NotBegunError

    stage_counted(*job, staging, tok, options, told)
    link.flush()
