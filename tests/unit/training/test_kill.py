"""SIGKILL at any instant: what is on the disk is always whole, and the resumed run ends with the unbroken one's bits.

Between two lives of a run its directory is moved and the number of threads changes. `benches/reliability/kill.py` does
the same some hundred times.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture(scope="module")
def bench():
    place = Path(__file__).resolve().parents[3] / "benches" / "reliability" / "kill.py"
    spec = importlib.util.spec_from_file_location("kill_bench", place)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_dozen_random_instants(bench, tmp_path):
    report = bench.survive(tmp_path, kills=12, seed=1, steps=30)
    assert report.kills == 12
    assert report.lives > 12
    assert report.differences == []
    assert report.unreadable == []


def test_a_difference_would_be_seen(bench, tmp_path):
    whole, other = tmp_path / "a", tmp_path / "b"
    bench.whole(whole, steps=6, seed=1)
    bench.whole(other, steps=6, seed=2)
    assert bench.compare(whole, other) == ["metrics.jsonl", "model.safetensors"]
    assert bench.compare(whole, whole) == []


def test_the_report_can_be_written(bench):
    report = bench.Report(kills=2)
    report.deaths.update(["3 checkpoints", "3 checkpoints"])
    assert json.loads(bench.as_json(report)) == {
        "kills": 2,
        "lives": 0,
        "runs": 0,
        "differences": [],
        "unreadable": [],
        "deaths": {"3 checkpoints": 2},
    }
