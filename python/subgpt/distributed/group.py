"""The processes of a run and how they talk: a few collective operations of MPI on NumPy arrays.

Nothing is pickled: what is no array goes as JSON.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from subgpt.distributed.last_resort import leave_behind

A = TypeVar("A", bound=np.generic)
F32 = npt.NDArray[np.float32]


class Member(NamedTuple):
    """One of the processes: its rank, its host, its number there."""

    rank: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.pid} on {self.host})"


class Group:
    """All processes, by their ranks from 0.

    Every method but `post`, `received` and `abort`, which wait for nobody, is called by all of them in the same order.

    comm: of mpi4py.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        me = [self.rank, os.environ.get("PMI_HOSTNAME") or socket.gethostname(), os.getpid()]
        self.members = [Member(*values) for values in self.gather(me)]

    @property
    def me(self) -> Member:
        """Give this process."""
        return self.members[self.rank]

    def gather(self, value: Any) -> list[Any]:
        """Give what `value` is for each, plain values, in the order of ranks."""
        data = np.frombuffer(json.dumps(value).encode(), np.uint8)
        sizes = np.empty(self.size, np.int64)
        self._comm.Allgather(np.array([data.size], np.int64), sizes)
        counts = [int(size) for size in sizes]
        every = np.empty(sum(counts), np.uint8)
        self._comm.Allgatherv(data, [every, counts])
        ends = np.cumsum(counts)
        return [json.loads(part.tobytes()) for part in np.split(every, ends[:-1])]

    def numbers(self, values: Sequence[float] | npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Give the numbers of each, as many for all, (size, n)."""
        mine = np.array(values, np.float64)
        every = np.empty((self.size, mine.size), np.float64)
        self._comm.Allgather(mine, every)
        return every

    def from_main(self, value: Any) -> Any:
        """Give what `value` is for rank 0."""
        data = np.frombuffer(json.dumps(value).encode(), np.uint8) if self.rank == 0 else None
        size = np.array([0 if data is None else data.size], np.int64)
        self._comm.Bcast(size)
        data = np.empty(int(size[0]), np.uint8) if data is None else data.copy()
        self._comm.Bcast(data)
        return json.loads(data.tobytes())

    def broadcast(self, array: F32) -> F32:
        """Give the array of rank 0, which has the same length for all."""
        array = np.ascontiguousarray(array)
        self._comm.Bcast(array)
        return array

    def exchange(self, array: npt.NDArray[A], counts: Sequence[int]) -> npt.NDArray[A]:
        """Send the k-th of the pieces of `array`, `counts` long, to rank k; give those that came, in order."""
        mine = counts[self.rank]
        received = np.empty(mine * self.size, array.dtype)
        self._comm.Alltoallv([array, list(counts)], [received, [mine] * self.size])
        return received

    def collect(self, piece: npt.NDArray[A], counts: Sequence[int]) -> npt.NDArray[A]:
        """Give the pieces of all, `counts` long, one behind the other."""
        every = np.empty(sum(counts), piece.dtype)
        self._comm.Allgatherv(piece, [every, list(counts)])
        return every

    def to_main(self, piece: F32, counts: Sequence[int]) -> F32 | None:
        """Give the pieces of all to rank 0, one behind the other; None to others."""
        every = np.empty(sum(counts), np.float32) if self.rank == 0 else None
        self._comm.Gatherv(piece, None if every is None else [every, list(counts)])
        return every

    def pieces_of_main(self, whole: F32 | None, counts: Sequence[int]) -> F32:
        """Give each its piece, `counts` long, of what rank 0 has."""
        piece = np.empty(counts[self.rank], np.float32)
        self._comm.Scatterv(None if whole is None else [whole, list(counts)], piece)
        return piece

    def post(self, rank: int) -> Any:
        """Send a sign of life to `rank`, without waiting; give the request."""
        return self._comm.Isend(np.zeros(1, np.uint8), rank)

    def received(self) -> list[int]:
        """Take all signs of life that came; give whose they are."""
        from mpi4py import MPI

        status, came = MPI.Status(), []
        while self._comm.Iprobe(status=status):
            self._comm.Recv(np.empty(1, np.uint8), status.Get_source())
            came.append(status.Get_source())
        return came

    def apart(self) -> "Group":
        """Give the same processes with messages of their own, which never meet others."""
        return Group(self._comm.Dup())

    def close(self) -> None:
        """Give back what MPI keeps for a group that `apart` made."""
        self._comm.Free()

    def abort(self, message: str) -> None:
        """Say why on standard error, and end all processes at once."""
        sys.stdout.flush()
        os.write(2, f"subgpt: {message}\n".encode(errors="replace"))
        leave_behind()
        # The launcher passes words on when it comes to it, and drops those of processes that it ended.
        time.sleep(0.5)
        self._comm.Abort(1)
