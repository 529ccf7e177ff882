"""Mixtures: exact shares, every window of a set once an epoch, any position by arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt import ConfigError, InvalidValueError
from subgpt.data.loader import WindowLoader
from subgpt.data.mixture import CYCLE, MixtureLoader, shares


def mixture(sizes, weights, batch_size=8, seed=3):
    rows = [np.arange(size, dtype=np.uint32) + 100_000 * number for number, size in enumerate(sizes)]
    loaders = [WindowLoader(row, block_size=4, batch_size=batch_size, seed=seed) for row in rows]
    return MixtureLoader(loaders, weights, seed=seed)


@given(st.lists(st.floats(1e-2, 1e2), min_size=1, max_size=9))
def test_shares_are_exact_to_one_place(weights):
    places = shares(weights)
    assert sum(places) == CYCLE
    exact = np.array(weights) / sum(weights) * CYCLE
    assert np.abs(np.array(places) - exact).max() < 1 + 1e-6


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1", None, True, 1e-9])
def test_weights_that_cannot_be(weight):
    with pytest.raises(ConfigError, match="weight"):
        shares([1, weight])


def test_every_cycle_has_the_shares_and_every_epoch_every_window():
    mixed = mixture([61, 4000], [1, 3], batch_size=64)
    small, large = (loader.windows_per_epoch for loader in mixed.loaders)
    both = [mixed.positions(step) for step in range(2 * CYCLE // 64)]
    owners, windows = (np.concatenate(arrays) for arrays in zip(*both, strict=True))
    assert np.bincount(owners[:CYCLE]).tolist() == mixed.places == [CYCLE // 4, 3 * CYCLE // 4]
    for number in (0, 1):
        assert (windows[owners == number] == np.arange((owners == number).sum())).all()
    near = np.convolve(owners, np.ones(512) / 512, "valid")
    assert np.abs(near - 0.75).max() < 0.12
    assert (small, large) == (14, 999)


def test_a_batch_holds_the_windows_of_its_sets():
    mixed = mixture([61, 4000], [1, 3])
    seen = set()
    for step in range(60):
        x, y = mixed.batch(step)
        assert (x.dtype, y.dtype) == (np.uint32, np.int64)
        assert (x + 1 == y).all()
        owners, windows = mixed.positions(step)
        assert (x[:, 0] // 100_000 == owners).all()
        for row, owner, window in zip(x, owners, windows, strict=True):
            epochs, index = divmod(int(window), mixed.loaders[owner].windows_per_epoch)
            alone, _ = mixed.loaders[owner].rows(np.array([epochs], np.uint64), np.array([index], np.uint64))
            assert (alone[0] == row).all()
            if owner == 0 and epochs == 0:
                seen.add(index)
    assert seen == set(range(14))


@pytest.mark.parametrize("batch_size", [5, 8, 3 * CYCLE // 2])
def test_any_step_comes_out_alike_in_any_order(batch_size):
    one, other = mixture([61, 400], [1, 3], batch_size), mixture([61, 400], [1, 3], batch_size)
    steps = [0, 1, CYCLE // batch_size, CYCLE // batch_size + 1, 10**9]
    forward = [one.positions(step) for step in steps]
    for step, expected in reversed(list(zip(steps, forward, strict=True))):
        for ours, theirs in zip(other.positions(step), expected, strict=True):
            assert (ours == theirs).all()
    assert not (mixture([61, 400], [1, 3], batch_size, seed=4).positions(0)[0] == forward[0][0]).all()
    with pytest.raises(InvalidValueError):
        one.positions(-1)
