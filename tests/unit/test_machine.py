"""What the operating system says about memory, on files that say it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from subgpt import machine


def test_this_process_has_memory_within_its_limit():
    assert 10 << 20 < machine.resident() <= machine.peak_resident() + (1 << 20)
    assert machine.resident() < machine.memory_limit()


HELD = """
import numpy as np
from subgpt import machine

before = machine.resident()
held = np.ones(64 << 17)
print((machine.resident() - before) / held.nbytes)
"""


def test_what_is_held_is_counted():
    # In a young process, which has no idle memory that a system could take away in between.
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0.9


@pytest.mark.parametrize(
    ("own", "files", "found"),
    [
        (
            "0::/a/b\n",
            {
                "a/b/memory.max": "100\n",
                "a/b/memory.current": "60\n",
                "a/memory.max": "max\n",
                "a/memory.current": "80\n",
                "memory.max": "300\n",
            },
            [(100, 60), (300, 0)],
        ),
        ("0::/of/the/host\n", {"memory.max": "200\n"}, [(200, 0)]),
        (
            "5:cpu,memory:/a\n4:pids:/a\n",
            {"memory/a/memory.limit_in_bytes": "7\n", "memory/a/memory.usage_in_bytes": "5"},
            [(7, 5)],
        ),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, []),
        ("0::/\n", {"memory.max": "nonsense"}, []),
        ("0::/no/\xfftext\n", {"memory.max": "200\n"}, [(200, 0)]),
        ("", {}, []),
    ],
)
def test_limits_of_containers_are_found(tmp_path, own, files, found):
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "own").write_bytes(own.encode("latin-1"))
    assert list(machine._cgroups(tmp_path / "cgroup", tmp_path / "own")) == found


def test_without_control_groups_the_machine_is_the_limit(tmp_path, monkeypatch):
    assert list(machine._cgroups(tmp_path, tmp_path / "missing")) == []
    monkeypatch.setattr(machine, "_cgroups", lambda: iter([(1000, 400), (5000, 4900)]))
    assert machine.memory_limit() == 1000
    assert machine.memory_left() == 100
