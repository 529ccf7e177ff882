import numpy as np
import pytest

from subgpt.data.loader import WindowLoader, evaluation_batches, positions
from subgpt.errors import ConfigError, DataError, DtypeError, InvalidValueError, ShapeError


def row(n):
    return np.arange(n, dtype=np.uint32)


def test_a_corpus_shorter_than_a_window_names_both_numbers_and_the_remedy():
    with pytest.raises(
        DataError, match=r"has 8 tokens, but .*block_size=8 needs 9; .*block_size to at most 7"
    ):
        WindowLoader(row(8), block_size=8, batch_size=1, seed=0)
    x, y = WindowLoader(row(9), block_size=8, batch_size=2, seed=0).batch(5)
    assert x.tolist() == [list(range(8))] * 2
    assert y.tolist() == [list(range(1, 9))] * 2


@pytest.mark.parametrize(
    ("tokens", "options", "error"),
    [
        (row(99).astype(np.int64), {}, DtypeError),
        ([1, 2, 3], {}, DtypeError),
        (row(100).reshape(10, 10), {}, ShapeError),
        (row(99), {"block_size": 0}, ConfigError),
        (row(99), {"batch_size": 0}, ConfigError),
        (row(99), {"batch_size": 1.5}, ConfigError),
        (row(99), {"batch_size": True}, ConfigError),
    ],
)
def test_bad_arguments(tokens, options, error):
    with pytest.raises(error):
        WindowLoader(tokens, **({"block_size": 4, "batch_size": 2, "seed": 0} | options))


def test_steps_far_out_and_negative():
    loader = WindowLoader(row(1000), block_size=8, batch_size=4, seed=0)
    x, _ = loader.batch(10**18)
    assert x.max() < 1000
    with pytest.raises(InvalidValueError, match="step must be 0 or more"):
        loader.batch(-1)


def test_the_order_is_shuffled_and_depends_on_seed_and_epoch():
    def order(seed, first):
        loader = WindowLoader(row(100_001), block_size=10, batch_size=1000, seed=seed)
        return (loader.starts(first) // 10).tolist()

    assert order(0, 0) != sorted(order(0, 0))
    assert len({tuple(order(seed, step)) for seed in (0, 1) for step in (0, 10)}) == 4


def test_every_phase_occurs():
    loader = WindowLoader(row(1000), block_size=8, batch_size=loader_windows(1000, 8), seed=0)
    assert {int(loader.starts(epoch)[0] % 8) for epoch in range(200)} == set(range(8))


def loader_windows(n, block_size):
    return WindowLoader(row(n), block_size=block_size, batch_size=1, seed=0).windows_per_epoch


def test_the_batches_of_a_seed_never_change():
    # Stored: a new order would break the resuming of runs begun with an earlier version.
    loader = WindowLoader(row(1000), block_size=8, batch_size=4, seed=42)
    assert [loader.starts(step).tolist() for step in (0, 1, 1000)] == [
        [930, 298, 138, 546],
        [498, 802, 442, 154],
        [543, 847, 655, 135],
    ]


def test_arrays_are_fresh_and_contiguous():
    tokens = row(100)
    x, y = WindowLoader(tokens, block_size=8, batch_size=4, seed=0).batch(0)
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous
    x[:] = 0
    assert (tokens == row(100)).all()
    for x, _ in evaluation_batches(tokens, block_size=8, batch_size=4):
        x[:] = 0
    assert (tokens == row(100)).all()


def test_positions_run_on_across_epochs():
    epochs, index = positions(3, 5, 4)
    assert epochs.tolist() == [3, 4, 4, 4, 4]
    assert index.tolist() == [3, 0, 1, 2, 3]


def test_evaluation_of_too_little():
    with pytest.raises(DataError, match="at least 2"):
        evaluation_batches(row(1), block_size=4, batch_size=1)
    [(x, y)] = evaluation_batches(row(2), block_size=4, batch_size=1)
    assert (x.tolist(), y.tolist()) == ([[0]], [[1]])


@pytest.mark.parametrize(("batch_size", "n"), [(1, 40), (7, 300), (12, 100_000), (2000, 9000)])
def test_batches_that_are_computed_ahead_are_those_of_their_own_rows(batch_size, n):
    loader, other = (WindowLoader(row(n), block_size=8, batch_size=batch_size, seed=3) for _ in range(2))
    for step in (0, 1, 2, 85, 84, 1024, 1023, 5, 0, 10**15):
        x, y = loader.batch(step)
        own, next_ids = other.rows(*positions(step, batch_size, loader.windows_per_epoch))
        assert np.array_equal(x, own), step
        assert np.array_equal(y, next_ids), step
    given = loader.starts(3)
    given[:] = 0
    assert loader.starts(3).any() or batch_size == 1
