"""The readers of fuzzing on their seeds, and on seeds with changes: what fuzzing does with guidance and more time."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .readers import BORDER, SEEDS, TARGETS, check, seeds

PIECES = [
    b"", b"0", b"-1", b"1e999", b"NaN", b"4294967296", b"9" * 400, b'"', b"\\ud800", b"null", b"true", b"[", b"]",
    b"{}", b"[" * 3000, b'{"a":' * 3000, b",", b":", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"../x", b"{{",
    b"%}", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff" * 8, BORDER,
]  # fmt: skip
Change = tuple[float, int, bytes]


def changed(data: bytes, changes: list[Change]) -> bytes:
    """Put something in the place of some bytes, at some places."""
    for place, taken, put in changes:
        start = int(place * len(data))
        data = data[:start] + put + data[start + taken :]
    return data


CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=3)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name):
    whole = [path.name for path in (SEEDS / name).iterdir() if path.name.startswith("whole")]
    assert whole
    for path in (SEEDS / name).iterdir():
        taken = check(name, path.read_bytes())
        assert taken or path.name not in whole, path.name


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data())
def test_changed_seeds(name, data):
    seed = data.draw(st.sampled_from(seeds(name)))
    check(name, changed(seed, data.draw(CHANGES)))


@given(name=st.sampled_from(sorted(TARGETS)), data=st.binary(max_size=200))
@example(name="settings", data=b"")
@settings(deadline=None)
def test_bytes_of_no_origin(name, data):
    check(name, data)


def test_every_target_has_seeds_and_every_seed_a_target():
    assert {path.name for path in SEEDS.iterdir()} == set(TARGETS)
