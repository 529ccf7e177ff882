"""Functions on a cluster: what they raise, how far they are, how they are stopped, and where their process is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

import subgpt
from subgpt import ConfigError
from subgpt.cluster import Cluster, LostError, NotBegunError, Tasks
from subgpt.cluster.board import Board
from subgpt.cluster.tasks import RETRIES

from .conftest import wait_for


def outcomes(tasks):
    seen = {}
    while len(tasks):
        seen |= dict(tasks.ended(1.0))
    return seen


def test_after_the_stop_none_begins_and_what_is_done_again_does_not_count_twice():
    board = Board()
    assert board.begin(1)
    assert not board.tell(1, 7)
    assert board.begin(1)
    assert not board.tell(1, 3)
    assert board.stop() == {1: 7}
    assert board.tell(1, 8)
    assert not board.begin(2)
    assert board.seen() == {1: 8}


def test_threads_are_those_that_fit(cluster, monkeypatch):
    assert cluster.cpus == [1, 1]
    monkeypatch.setattr(Cluster, "cpus", [4, 16])
    assert [cluster.threads(tasks) for tasks in (1, 2, 3, 5, 20, 100)] == [16, 8, 5, 4, 1, 1]


def test_each_runs_in_the_directory_of_the_caller_with_its_threads(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def work(link, name):
        Path(name).write_text(f"{Path.cwd()} {subgpt.get_num_threads()}")
        link.tell(3)
        link.flush()

    with Tasks(cluster, 1) as tasks:
        tasks.start(1, work, "a")
        tasks.start(2, work, tasks.share("b"))
        assert outcomes(tasks) == {1: None, 2: None}
        assert tasks.seen() == {1: 3, 2: 3}
    assert [Path(name).read_text() for name in "ab"] == [f"{tmp_path} 1"] * 2


def test_what_they_raise_comes_back(cluster):
    def fail(link):
        raise ConfigError("learning_rate = -1; give a number above 0")

    with Tasks(cluster, 1) as tasks:
        tasks.start(1, fail)
        error = outcomes(tasks)[1]
    assert type(error) is ConfigError
    assert str(error) == "learning_rate = -1; give a number above 0"


def test_asked_to_stop_they_end_and_others_do_not_begin(cluster, tmp_path):
    def work(link, path):
        path.write_text("begun")
        while not link.tell(1):
            time.sleep(0.01)
        path.write_text("ended")

    with Tasks(cluster, 1) as tasks:
        for key in range(4):
            tasks.start(key, work, tmp_path / str(key))
        wait_for(lambda: len(tasks.seen()) == 2)
        tasks.stop()
        seen = outcomes(tasks)
    begun = {key for key in range(4) if (tmp_path / str(key)).exists()}
    assert len(begun) == 2
    assert all((tmp_path / str(key)).read_text() == "ended" for key in begun)
    assert {key for key in seen if isinstance(seen[key], NotBegunError)} == set(range(4)) - begun


def test_a_lost_process_is_replaced_but_not_for_ever(cluster, tmp_path):
    def work(link, path, deaths):
        with path.open("a") as file:
            file.write("x")
        if path.stat().st_size <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)

    with Tasks(cluster, 1) as tasks:
        tasks.start(1, work, tmp_path / "a", 1)
        tasks.start(2, work, tmp_path / "b", 100)
        seen = outcomes(tasks)
    assert seen[1] is None
    assert (tmp_path / "a").read_text() == "xx"
    assert isinstance(seen[2], LostError)
    assert len((tmp_path / "b").read_text()) == RETRIES + 1


def test_what_still_runs_at_the_end_is_killed(cluster, tmp_path):
    def work(link, path):
        path.write_text(str(os.getpid()))
        time.sleep(600)

    with Tasks(cluster, 1) as tasks:
        tasks.start(1, work, tmp_path / "pid")
        wait_for((tmp_path / "pid").exists)
        process = int(wait_for((tmp_path / "pid").read_text))
    wait_for(lambda: not Path(f"/proc/{process}").exists())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="paths that are one process's own")
def test_a_machine_that_does_not_see_the_files_is_named(cluster, tmp_path):
    (tmp_path / "text.txt").write_text("so much depends")
    cluster.check(tmp_path, [tmp_path / "text.txt"])
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]
    mine = os.open(tmp_path, os.O_RDONLY)
    try:
        own = Path(f"/proc/self/fd/{os.dup2(mine, 900)}")
        with pytest.raises(
            ConfigError, match=r"machine .* does not see /proc/self/fd/900/text.txt as it is here"
        ):
            cluster.check(tmp_path, [own / "text.txt"])
        with pytest.raises(
            ConfigError, match=r"does not see /proc/self/fd/900 as it is .* all machines mount"
        ):
            cluster.check(own, [tmp_path / "text.txt"])
    finally:
        os.close(mine)
        os.close(900)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_a_machine_with_another_version_is_named(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(subgpt._core, "__version__", "7.0")
    with pytest.raises(ConfigError, match=r"has subgpt .*, and here is 7.0; install the same"):
        cluster.check(tmp_path, [])


def test_an_address_is_a_text(cluster):
    for address in ("", " ", 3, True):
        with pytest.raises(ConfigError, match="give an address"):
            Cluster(address)
