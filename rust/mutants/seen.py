"""A plugin of pytest that asks after every phase of a test which mutants it could have noticed (`mutant.rs`).

Writes SUBGPT_MUTANTS_TESTS: for each test its seconds and the mutants it reached. What fixtures and imports reach
counts for all tests that may use them: those of the file, and all.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from subgpt import _core

_write = ctypes.CDLL(_core.__file__).subgpt_mutants_seen
_file = Path(os.environ["SUBGPT_MUTANTS_SEEN"])
_reached = defaultdict[str, set[int]](set)
_seconds = defaultdict[str, float](float)


def _take() -> set[int]:
    _write()
    numbers = {int(number) for number in _file.read_text(encoding="ascii").split()}
    _file.unlink()
    return numbers


def pytest_collection_finish() -> None:
    """Note what imports reached."""
    _reached[""] |= _take()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what a phase of a test reached."""
    _seconds[report.nodeid] += report.duration
    _reached[report.nodeid if report.when == "call" else report.nodeid.partition("::")[0]] |= _take()


def pytest_sessionfinish() -> None:
    """Write what was found."""
    tests = {
        name: [seconds, sorted(_reached[name] | _reached[name.partition("::")[0]] | _reached[""])]
        for name, seconds in _seconds.items()
    }
    Path(os.environ["SUBGPT_MUTANTS_TESTS"]).write_text(json.dumps(tests), encoding="utf-8")
