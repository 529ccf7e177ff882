"""A cluster of two machines, both of them this one."""

from __future__ import annotations

import os
import signal
import time
import warnings

import pytest


@pytest.fixture(scope="session")
def ray():
    """Tests of clusters are skipped without it."""
    return pytest.importorskip("ray", reason="the extra ray is not installed")


@pytest.fixture(scope="module")
def machines(ray):
    """Two machines of one processor each, which this process has joined; `machines.add_node()` adds another."""
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def cluster(machines):
    from subgpt.cluster import Cluster

    with Cluster("auto") as joined:
        yield joined


def wait_for(there, seconds=150.0):
    """Wait until `there()` is true, and give what it is."""
    until = time.monotonic() + seconds
    while not (seen := there()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return seen


def at_work(ancestor=None):
    """Give the processes that are in the middle of a task, below the process of that number."""
    import psutil  # Ray brings one along

    found = []
    for process in psutil.Process(ancestor).children(recursive=True):
        try:
            if process.cmdline()[:1] == ["ray::_run"]:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def kill_one_of(finished, ancestor=None):
    """End a process in the middle of a task for good; `finished()` tells whether none was in the middle of one."""
    while True:
        process = wait_for(lambda: at_work(ancestor))[0]
        process.suspend()
        if process in at_work(ancestor):
            break
        process.resume()  # its task had ended meanwhile
    assert not finished()
    os.kill(process.pid, signal.SIGKILL)
    return process.pid
