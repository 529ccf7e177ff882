"""Ranks on several hosts add up what they should, and their bytes cross the network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .hosts import Hosts, find_mpirun, remove_abandoned, why_not

pytest.importorskip("mpi4py", reason='needs mpi4py and an MPI: pip install "subgpt[distributed]"')

NUMBERS = 250_000
ALLREDUCE = f"""
from mpi4py import MPI
import numpy as np, os
world = MPI.COMM_WORLD
mine = np.arange({NUMBERS}, dtype=np.float32) + world.rank
summed = np.empty_like(mine)
world.Allreduce(mine, summed)
expected = world.size * np.arange({NUMBERS}) + world.size * (world.size - 1) / 2
assert np.array_equal(summed, expected), summed[:4]
together = world.Split_type(MPI.COMM_TYPE_SHARED).size
names = world.gather((os.uname().nodename, together))
if world.rank == 0:
    print(*sorted(name for name, _ in names), max(size for _, size in names))
"""


def need(**link: str) -> None:
    reason = why_not(**link)
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("count", [2, 4])
def test_sums_are_right_and_cross_the_wire(count):
    need()
    with Hosts(count) as hosts:
        done = hosts.run([sys.executable, "-c", ALLREDUCE])
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [f"host-{i + 1}" for i in range(count)] + ["1"]
        # Whatever the algorithm, each host must tell and be told as much as its numbers.
        assert min(hosts.sent()) > 4 * NUMBERS
        assert min(hosts.received()) > 4 * NUMBERS


def test_ranks_of_one_host_share_memory_instead():
    need()
    with Hosts(1) as hosts:
        done = hosts.run([sys.executable, "-c", ALLREDUCE], per_host=2)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["host-1", "host-1", "2"]
        assert hosts.sent()[0] < 4 * NUMBERS


def test_hosts_do_not_reach_the_machine_or_other_hosts():
    need()
    with Hosts(2) as one, Hosts(2) as other:
        assert one.addresses == other.addresses
        seen = subprocess.run(
            one.on(0, ["ip", "-br", "link"]), capture_output=True, text=True, check=True
        ).stdout
        assert sorted(line.split("@")[0].split()[0] for line in seen.splitlines()) == ["eth0", "lo"]
        one.silence(1)
        assert not reaches(one, 0, 1)
        assert reaches(other, 0, 1)
        one.restore(1)
        assert any(reaches(one, 0, 1) for _ in range(10))  # a link takes a moment to come up


def test_a_rate_is_a_rate():
    need(rate="100mbit")
    with Hosts(2, rate="100mbit") as hosts:
        shown = subprocess.run(
            ["tc", "-n", hosts.namespace(1), "qdisc"], capture_output=True, text=True, check=True
        )
        assert "rate 100Mbit" in shown.stdout
        assert hosts.run([sys.executable, "-c", ALLREDUCE]).returncode == 0


def test_a_delay_is_a_delay():
    need(delay="20ms")
    with Hosts(2, delay="20ms") as hosts:
        shown = subprocess.run(
            ["tc", "-n", hosts.namespace(1), "qdisc"], capture_output=True, text=True, check=True
        )
        assert "delay 20" in shown.stdout
        assert hosts.run([sys.executable, "-c", ALLREDUCE]).returncode == 0


def test_a_host_without_power_is_gone():
    need()
    with Hosts(2) as hosts:
        sleepers = [subprocess.Popen(hosts.on(host, ["sleep", "1000"])) for host in range(2)]
        assert reaches(hosts, 0, 1)
        hosts.kill(1)
        assert sleepers[1].wait(10) == -signal.SIGKILL
        assert sleepers[0].poll() is None
        assert not reaches(hosts, 0, 1)
    assert sleepers[0].wait(10) == -signal.SIGKILL


def test_nothing_is_left_even_when_the_block_fails():
    need()
    sleepers = []
    with pytest.raises(ZeroDivisionError):
        fail_inside(Hosts(2), sleepers)
    assert sleepers[0].wait(10) == -signal.SIGKILL
    assert namespaces(os.getpid()) == []


def fail_inside(hosts: Hosts, sleepers: list[subprocess.Popen[bytes]]) -> None:
    with hosts:
        sleepers.append(subprocess.Popen(hosts.on(1, ["sleep", "1000"])))
        assert len(namespaces(os.getpid())) == 3
        raise ZeroDivisionError


def test_what_a_killed_process_left_is_removed():
    need()
    begin = f"from hosts import Hosts; Hosts(1, mpirun={find_mpirun()!r}).__enter__()"
    code = f"import os; {begin}; os.kill(os.getpid(), 9)"
    killed = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    assert killed.wait(30) == -signal.SIGKILL
    assert namespaces(killed.pid)
    remove_abandoned()
    assert namespaces(killed.pid) == []


def reaches(hosts: Hosts, one: int, other: int) -> bool:
    """Whether a connection to another host is refused, which takes an answer, and not lost."""
    code = f"""
import socket, sys
try:
    socket.create_connection(({hosts.addresses[other]!r}, 9), timeout=3)
except ConnectionRefusedError:
    sys.exit(7)
except OSError:
    sys.exit(8)
"""
    return subprocess.run(hosts.on(one, [sys.executable, "-c", code]), check=False).returncode == 7


def namespaces(pid: int) -> list[str]:
    """The network namespaces that a process made and did not remove."""
    listing = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listing.splitlines() if line.startswith(f"sghosts-{pid}-")]
