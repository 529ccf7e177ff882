"""Hosts on one machine: network namespaces on a bridge, on which a real `mpirun` starts ranks as on a cluster.

    with Hosts(4, rate="1gbit") as hosts:
        done = hosts.run([sys.executable, "script.py"], timeout=60)
        assert done.returncode == 0 and min(hosts.sent()) > 0

Each host has an address, a name, an interface `eth0` and shared memory of its own, so that nothing but the network
joins two of them; `mpirun` runs on the first and reaches the others through a script in ssh's place. The switch is
a namespace, too: the machine's own network is not touched, and addresses may be the same in every test. Needs Linux,
root, iproute2 and util-linux: `why_not` says what is missing. Files and processors are the machine's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

NETWORK = "10.77.0"
_NAME = re.compile(r"sghosts-(\d+)-\d+-\w+")
_NUMBERS = itertools.count()

# What ssh would do: a shell on another host. `$1` is its address, the rest a command line.
_LAUNCHER = """#!/bin/sh
[ "$1" = -x ] && shift
host=${{1##*.}}; shift
exec ip netns exec {prefix}-"$host" unshare --uts --ipc sh -c '
    echo host-"$0" > /proc/sys/kernel/hostname
    mount -t tmpfs tmpfs /dev/shm
    exec sh -c "$1"' "$host" "$*"
"""

# The ranks share a kernel: MPICH's and Open MPI's transports would find each other's memory if they were not told.
_ENVIRONMENT = {
    "UCX_TLS": "tcp,self",
    "UCX_NET_DEVICES": "eth0",
    "FI_PROVIDER": "tcp",
    "FI_TCP_IFACE": "eth0",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_btl": "self,tcp",
    "OMPI_MCA_btl_tcp_if_include": "eth0",
    "PRTE_MCA_prte_if_include": "eth0",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}


class Hosts:
    """`count` hosts, numbered from 0, from the beginning of a `with` block to its end, however that ends.

    rate, delay: of every link and in both directions, in `tc`'s words ("1gbit", "5ms"); None for what the kernel
    gives. mpirun: the one to use, MPICH's or Open MPI's; None for the one beside this Python.
    """

    def __init__(
        self, count: int, *, rate: str | None = None, delay: str | None = None, mpirun: str | None = None
    ) -> None:
        self.count = count
        self.mpirun = mpirun or find_mpirun()
        self._rate, self._delay = rate, delay
        self._prefix = f"sghosts-{os.getpid()}-{next(_NUMBERS)}"
        self._folder = Path()

    def __enter__(self) -> Hosts:
        remove_abandoned()
        self._folder = Path(tempfile.mkdtemp(prefix=self._prefix))
        try:
            self._plug_together()
            self._launcher.write_text(_LAUNCHER.format(prefix=self._prefix), encoding="utf-8")
            self._launcher.chmod(0o755)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in range(self.count):
            _remove(self.namespace(host))
        _remove(self._switch)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def addresses(self) -> list[str]:
        """The address of each host."""
        return [f"{NETWORK}.{host + 1}" for host in range(self.count)]

    @property
    def _switch(self) -> str:
        return f"{self._prefix}-switch"

    @property
    def _launcher(self) -> Path:
        return self._folder / "launch"

    def namespace(self, host: int) -> str:
        """Give the network namespace of a host, as `ip netns` lists it."""
        return f"{self._prefix}-{host + 1}"

    def _plug_together(self) -> None:
        _call("ip", "netns", "add", self._switch)
        _call("ip", "-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _call("ip", "-n", self._switch, "link", "set", "bridge", "up")
        for host, address in enumerate(self.addresses):
            name, port = self.namespace(host), f"port{host}"
            _call("ip", "netns", "add", name)
            _call(
                *("ip", "link", "add", "eth0", "netns", name, "type", "veth"),
                *("peer", "name", port, "netns", self._switch),
            )
            _call("ip", "-n", self._switch, "link", "set", port, "master", "bridge", "up")
            _call("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            _call("ip", "-n", name, "link", "set", "eth0", "up")
            _call("ip", "-n", name, "link", "set", "lo", "up")
            for space, device in ((name, "eth0"), (self._switch, port)):
                limit(space, device, self._rate, self._delay)

    def argv(self, command: Sequence[str], *, per_host: int = 1) -> list[str]:
        """Give the command line that starts `command` on every host, `per_host` ranks on each.

        It wants `environment()`, and ends with the ranks.
        """
        ranks = ["-n", str(self.count * per_host)]
        if _is_hydra(self.mpirun):
            launch = ["-launcher", "ssh", "-launcher-exec", str(self._launcher), "-iface", "eth0"]
            where = ["-hosts", ",".join(self.addresses), "-ppn", str(per_host)]
        else:
            launch = ["--prtemca", "plm_ssh_agent", str(self._launcher)]
            where = ["--host", ",".join(f"{address}:{per_host}" for address in self.addresses)]
            where += ["--map-by", "slot:oversubscribe", "--bind-to", "none"]
        return self.on(0, [self.mpirun, *launch, *where, *ranks, *command])

    def on(self, host: int, command: Sequence[str]) -> list[str]:
        """Give the command line that starts `command` once, on one host, in a process that becomes it."""
        return [str(self._launcher), self.addresses[host], f"exec {shlex.join(command)}"]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Give this process's environment with what keeps ranks to the network, and `more`."""
        return {**os.environ, **_ENVIRONMENT, **(more or {})}

    def run(
        self,
        command: Sequence[str],
        *,
        per_host: int = 1,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Start `command` on every host, wait for its end and give its output."""
        return subprocess.run(
            self.argv(command, per_host=per_host),
            env=self.environment(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def sent(self) -> list[int]:
        """Bytes that each host put on its wire so far."""
        return [self._counters(host)["tx"]["bytes"] for host in range(self.count)]

    def received(self) -> list[int]:
        """Bytes that each host took from its wire so far."""
        return [self._counters(host)["rx"]["bytes"] for host in range(self.count)]

    def _counters(self, host: int) -> dict[str, dict[str, int]]:
        shown = _call("ip", "-n", self.namespace(host), "-json", "-stats", "link", "show", "eth0")
        return json.loads(shown)[0]["stats64"]

    def silence(self, host: int) -> None:
        """Pull a host's cable: what it sends is lost, and no connection is told."""
        _call("ip", "-n", self._switch, "link", "set", f"port{host}", "down")

    def restore(self, host: int) -> None:
        """Put the cable back."""
        _call("ip", "-n", self._switch, "link", "set", f"port{host}", "up")

    def kill(self, host: int) -> None:
        """Take a host's power: its processes end at once, and its cable is pulled before they can say so."""
        self.silence(host)
        _kill_all(self.namespace(host))


def find_mpirun() -> str:
    """Give the `mpirun` beside this Python, or the one on the path; "" if there is none."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun") or ""


@cache
def _is_hydra(mpirun: str) -> bool:
    return "HYDRA" in _call(mpirun, "--version").upper()


def why_not(*, rate: str | None = None, delay: str | None = None) -> str | None:
    """Say why there can be no hosts here, with links of this kind; None if there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    missing = [tool for tool in ("ip", "tc", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found (iproute2, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces are root's to make"
    if not find_mpirun():
        return 'there is no mpirun; pip install "subgpt[distributed]"'
    name = f"sghosts-{os.getpid()}-{next(_NUMBERS)}-probe"
    try:
        _call("ip", "netns", "add", name)
        _call(
            "ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", "eth1", "netns", name
        )
        limit(name, "eth0", rate, delay)
        _call(
            "ip",
            "netns",
            "exec",
            name,
            "unshare",
            "--uts",
            "--ipc",
            "mount",
            "-t",
            "tmpfs",
            "tmpfs",
            "/dev/shm",
        )
    except RuntimeError as error:
        return f"no network namespaces as they are needed: {error}"
    finally:
        _remove(name)
    return None


def limit(namespace: str, device: str, rate: str | None, delay: str | None) -> None:
    """Let what leaves a device leave it as through a slower or longer wire."""
    add = ("tc", "-n", namespace, "qdisc", "add", "dev", device)
    if delay:
        _call(*add, "root", "netem", "delay", delay, *(("rate", rate) if rate else ()))
    elif rate:
        _call(*add, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms")


def remove_abandoned() -> None:
    """Remove the hosts of processes that were killed before they could."""
    for line in _call("ip", "netns", "list").splitlines():
        found = _NAME.match(line)
        if found and not Path("/proc", found[1]).exists():
            _remove(found[0])


def _remove(namespace: str) -> None:
    with contextlib.suppress(RuntimeError):
        _kill_all(namespace)
    with contextlib.suppress(RuntimeError):
        _call("ip", "netns", "delete", namespace)


def _kill_all(namespace: str) -> None:
    for pid in _call("ip", "netns", "pids", namespace).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
