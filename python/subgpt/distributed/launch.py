"""Finds out whether this process is one of several that were started together, and opens their group.

Programs that start processes say so in the environment: MPICH's and Intel's `mpirun` (PMI_), Open MPI's (OMPI_), and
Slurm's `srun` (PMI_ or PMIX_). MPI is only looked at where one of them did.
"""

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from subgpt.errors import DistributedError, MissingExtraError

if TYPE_CHECKING:
    from subgpt.distributed.group import Group, Member

T = TypeVar("T")

_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_OF_LAUNCHERS = ("PMI_", "PMIX_", "OMPI_", "MV2_COMM_", "HYDI_")
_RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")


def was_launched() -> bool:
    """Tell whether this process seems to be one of several."""
    sizes = [os.environ[name] for name in _SIZES if name in os.environ]
    if sizes:
        return any(size.isdigit() and int(size) > 1 for size in sizes)
    return any(name in os.environ for name in _RANKS)


def without_launcher() -> dict[str, str]:
    """Give the environment for a process that is none of those that a launcher started."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OF_LAUNCHERS)}


@cache
def find_group() -> "Group | None":
    """Open the group of this process, once; None where it is alone.

    Raises MissingExtraError without mpi4py, DistributedError if MPI cannot be used.
    """
    if not was_launched():
        return None
    comm = _communicator()
    if comm.Get_size() == 1:
        return None
    from subgpt.distributed.group import Group

    return Group(comm)


def _communicator() -> Any:
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MissingExtraError(
            f"this process was started by an MPI launcher, and mpi4py cannot be used ({error}); "
            'pip install "subgpt[distributed]"'
        ) from None
    except RuntimeError as error:
        raise DistributedError(
            f'MPI cannot be used: {error}; pip install "subgpt[distributed]" brings one'
        ) from None
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise DistributedError(
            "this MPI was started without support for threads (MPI_THREAD_MULTIPLE), which training needs; let mpi4py "
            "start it (mpi4py.rc.thread_level), or use another MPI"
        )
    return MPI.COMM_WORLD.Dup()


def is_main() -> bool:
    """Tell whether this process is the one that writes files and tells of the run."""
    group = find_group()
    return group is None or group.rank == 0


def from_main(value: Callable[[], T]) -> T:
    """Give what `value` is in the main process, plain values, to all; what it raises there is raised everywhere."""
    group = find_group()
    if group is None:
        return value()
    if group.rank == 0:
        try:
            result = value()
        except Exception as error:
            group.from_main([False, str(error)])
            error.common = True  # type: ignore[attr-defined]
            raise
        group.from_main([True, result])
        return result
    good, result = group.from_main(None)
    if not good:
        raise told_by(group.members[0], result)
    return result


def told_by(member: "Member", message: str) -> DistributedError:
    """Make the error of a process for what another one says."""
    error = DistributedError(f"{member}: {message}")
    error.common = error.told = True  # type: ignore[attr-defined]
    return error


def is_common(error: BaseException) -> bool:
    """Tell whether all processes know of an error, so that each ends by itself."""
    return getattr(error, "common", False)


def is_told(error: BaseException) -> bool:
    """Tell whether another process says what went wrong, so that this one need not."""
    return getattr(error, "told", False)
