"""The cores of a host, divided among the processes that run on it."""

import os

from subgpt import _core
from subgpt.distributed.group import Group


def share_cores(group: Group) -> int:
    """Give each process its part of the cores that several may use; gives the threads of this one.

    `SUBGPT_NUM_THREADS` goes before, and so do cores that the launcher gave to one process alone.
    """
    everyone = group.gather([group.me.host, sorted(_usable())])
    here = [set(cores) for host, cores in everyone if host == group.me.host]
    mine = _usable()
    if not os.environ.get("SUBGPT_NUM_THREADS", "").strip():
        sharing = sum(bool(mine & cores) for cores in here)
        _core.set_num_threads(max(1, min(_core.get_num_threads(), len(mine) // sharing)))
    return _core.get_num_threads()


def _usable() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))
