"""A Ray cluster: joined for as long as there is work for it."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.cluster.extra import need_ray
from subgpt.cluster.shared import check_nodes
from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "local"
"""An address: a cluster of this machine alone, begun for the purpose."""
CLIENT = "ray://"
"""How an address begins that is used from outside of the cluster."""
_SECONDS = 10.0


class Cluster:
    """Use as a context: it is joined at the beginning and left at the end.

    address: "auto" for the cluster that this machine belongs to, "HOST:PORT" or "ray://HOST:10001" for another one,
    "local" for a new one of this machine alone. Where this process has joined a cluster already, it is that one, and
    it is not left.

    Raises MissingExtraError without Ray; ConfigError if there is no such cluster.
    """

    def __init__(self, address: str) -> None:
        if not isinstance(address, str) or not address.strip():
            raise ConfigError(
                f"ray = {address!r}; give an address: auto, HOST:PORT, ray://HOST:10001, or {LOCAL}"
            )
        self.address = address
        self.ray: Any = need_ray()
        self._joined: AbstractContextManager[None] | None = None

    def __enter__(self) -> Cluster:
        if not self.ray.is_initialized():
            self._joined = _joined(self.ray, self.address)
            self._joined.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._joined is not None:
            self._joined.__exit__(*error)
            self._joined = None

    @property
    def cpus(self) -> list[int]:
        """The processors of each machine that has any."""
        return [_cpus(node) for node in self._nodes()]

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"] and _cpus(node)]

    def threads(self, tasks: int) -> int:
        """Give the most threads a task can have where so many run at once."""
        counts = self.cpus
        fitting = (share for share in range(max(counts, default=1), 0, -1) if _room(counts, share) >= tasks)
        return next(fitting, 1)

    def check(self, output: Path, sources: Sequence[Path]) -> None:
        """Refuse a cluster without processors, or of which a machine lacks subgpt or sees other files than this one.

        output: a directory that is there, in which every machine must be able to write. sources: what is read.

        Raises ConfigError that names the address, or the machine and the path.
        """
        nodes = self._nodes()
        if not nodes:
            raise ConfigError(
                f"ray = {self.address!r}: no machine of the cluster has processors for the work; add one with "
                "`ray start --address HOST:PORT`, or wait until one has joined (`ray status`)"
            )
        check_nodes(self.ray, nodes, output, sources)


def _cpus(node: dict[str, Any]) -> int:
    return int(node["Resources"].get("CPU", 0))


def _room(counts: Sequence[int], share: int) -> int:
    return sum(count // share for count in counts)


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT; Ray would try for minutes."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()


@contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    """Join a cluster, without what Ray has to say about it."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked
        options |= {"num_cpus": _core.get_num_threads(), "include_dashboard": False}
    try:
        _knock(address)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, ImportError, OSError, AssertionError) as error:
        ray.shutdown()
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"ray = {address!r}: no cluster can be joined there ({said}); begin one with `ray start --head`, check the "
            f"address, or give {LOCAL}"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
