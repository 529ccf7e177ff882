"""Whether a process is one of several; who is gone; how cores are divided."""

import os
import subprocess
import sys
import threading

import pytest

from subgpt import _core
from subgpt.distributed import alive, cores
from subgpt.distributed.group import Member
from subgpt.distributed.launch import is_told, told_by, was_launched, without_launcher


@pytest.fixture
def outside(monkeypatch):
    for name in list(os.environ):
        if name not in without_launcher():
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("names", "launched"),
    [
        ({}, False),
        ({"PMI_SIZE": "4", "PMI_RANK": "0"}, True),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"PMIX_RANK": "3"}, True),  # Slurm, which tells no size
        ({"SLURM_NTASKS": "4"}, False),  # a job's script, before srun
    ],
)
def test_launchers_are_known_by_what_they_say(outside, names, launched):
    for name, value in names.items():
        outside.setenv(name, value)
    assert was_launched() is launched
    outside.setenv("HOME", "/somewhere")
    assert not set(names) - {"SLURM_NTASKS"} & set(without_launcher())
    assert without_launcher()["HOME"] == "/somewhere"


def test_without_mpi4py_the_extra_is_named(outside):
    code = (
        "import sys; sys.modules['mpi4py'] = None\n"
        "from subgpt.distributed.launch import find_group\n"
        "try: find_group()\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    outside.setenv("PMI_SIZE", "2")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("MissingExtraError")
    assert "subgpt[distributed]" in said


def test_a_process_alone_does_not_look_for_mpi(outside):
    code = (
        "import sys, subgpt.training.runner, subgpt.distributed.launch as launch\n"
        "assert launch.find_group() is None and launch.is_main() and launch.from_main(lambda: 3) == 3\n"
        "assert 'mpi4py' not in sys.modules and 'subgpt.distributed.team' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_another_process_says_is_not_said_twice(capsys):
    from subgpt.cli.outcome import FAILED, finish

    def fails():
        raise told_by(Member(2, "b", 77), "no such file")

    assert finish(fails) == FAILED
    assert capsys.readouterr() == ("", "")
    error = told_by(Member(2, "b", 77), "no such file")
    assert is_told(error)
    assert str(error) == "rank 2 (process 77 on b): no such file"


class Line:
    """A group whose others are heard, or not."""

    size = 3
    members = (Member(0, "a", 1), Member(1, "b", 2), Member(2, "c", 3))

    def __init__(self, rank, heard):
        self.rank, self.heard, self.posted = rank, heard, []

    def received(self):
        return list(self.heard)

    def post(self, rank):
        self.posted.append(rank)
        return type("Sent", (), {"Test": lambda self: True})()


@pytest.mark.parametrize(
    ("rank", "heard", "who"),
    [(0, [1], "rank 2 (process 3 on c)"), (0, [], "rank 1 .*, rank 2"), (2, [], "rank 0 (process 1 on a)")],
)
def test_who_is_silent_for_too_long_is_named(monkeypatch, rank, heard, who):
    monkeypatch.setattr(alive, "TICK", 0.02)
    said, told = threading.Event(), []

    def lost(message):
        told.append(message)
        said.set()

    watch = alive.Watch(Line(rank, heard), 0.3, lost, lambda: "go on with --resume")
    watch.start()
    assert said.wait(20)
    watch.stop()
    first, _, last = who.partition(" .*, ")
    assert told[0].startswith(first)
    assert last in told[0]
    assert told[0].endswith("no sign of life for 0.3 s, so the job ends; go on with --resume")


def test_nobody_is_missed_who_is_heard(monkeypatch):
    monkeypatch.setattr(alive, "TICK", 0.01)
    told, line = [], Line(0, [1, 2])
    watch = alive.Watch(line, 0.2, told.append, str)
    watch.start()
    watch._stop.wait(0.6)
    watch.stop()
    assert told == []
    assert {1, 2} == set(line.posted)


@pytest.mark.parametrize(
    ("others", "threads"),
    [([[0, 1, 2, 3]] * 4, 1), ([[0, 1, 2, 3]] * 2, 2), ([[0, 1, 2, 3], [4, 5]], 4), ([[0, 1]], 2)],
)
def test_cores_are_divided_among_those_who_share_them(monkeypatch, others, threads):
    monkeypatch.delenv("SUBGPT_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores, "_usable", lambda: set(others[0]))
    before = _core.get_num_threads()

    class Hosts:
        me = Member(0, "here", 1)

        def gather(self, _value):
            return [["here", mine] for mine in others] + [["there", others[0]]]

    try:
        _core.set_num_threads(len(others[0]))
        assert cores.share_cores(Hosts()) == threads
        monkeypatch.setenv("SUBGPT_NUM_THREADS", "3")
        _core.set_num_threads(3)
        assert cores.share_cores(Hosts()) == 3
    finally:
        _core.set_num_threads(before)
