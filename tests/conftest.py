"""What every test may use: the folder of reference data, and the processor's instruction sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import subgpt

ROOT = Path(__file__).resolve().parent.parent

# "fast" runs the same examples every time, so that a check that passed once passes again; "slow" looks for new ones.
CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=25, derandomize=True, **CALM)
settings.register_profile("slow", max_examples=500, **CALM)
settings.load_profile(os.environ.get("SUBGPT_HYPOTHESIS", "fast"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real corpora, vocabularies and PyTorch's results, kept beside the checkout; tests that need them skip without."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the reference data beside the checkout (../shared) is not there")
    return folder


@pytest.fixture(params=["portable", "avx2", "avx512", "avx512bf16", "amx"])
def every_isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test once for each instruction set of this processor."""
    if request.param not in subgpt.available_isas():
        pytest.skip(f"this processor has no {request.param}")
    before = subgpt.isa()
    subgpt.set_isa(request.param)
    yield request.param
    subgpt.set_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back after a test that changes it."""
    before = subgpt.get_num_threads()
    yield
    subgpt.set_num_threads(before)


@pytest.fixture
def within(record_property: Callable[[str, object], None]) -> Iterator[Callable[[str, float, float], None]]:
    """Holds a difference below its bound; the largest of each name is told with the test's result (``--junitxml``)."""
    largest: dict[str, float] = {}

    def check(what: str, value: float, bound: float) -> None:
        largest[what] = max(largest.get(what, 0.0), float(value))
        assert value < bound, f"{what}: {value} is not below {bound}"

    yield check
    for what, value in largest.items():
        record_property(what, value)
