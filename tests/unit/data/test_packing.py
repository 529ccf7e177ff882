"""Packed batches, to the last number."""

import numpy as np
import pytest

from subgpt.data.documents import Origin
from subgpt.data.masking import TokenExample
from subgpt.data.packing import PackedLoader, pack
from subgpt.errors import ConfigError, DataError, InvalidValueError


def example(ids, trained):
    return TokenExample(np.array(ids, dtype=np.uint32), np.array(trained, dtype=bool), Origin("x", 1))


A = example([1, 2, 3, 4], [0, 0, 1, 1])
B = example([5, 6], [0, 1])
C = example([7, 8, 9], [0, 1, 1])


def test_a_batch_to_the_last_number():
    loader = PackedLoader([A, B, C], block_size=4, batch_size=2, seed=0, pad=99)
    assert sorted(map(sorted, loader.rows)) == [[0, 1], [2]]
    assert len(loader) == 2
    batch = loader.batch(0)
    order = [0 if len(loader.rows[i]) == 2 else 1 for i in loader.indices(0)]
    assert sorted(order) == [0, 1]
    assert batch.x[np.argsort(order)].tolist() == [[1, 2, 3, 5], [7, 8, 99, 99]]
    # The last place of A has A's last id as target, not B's first.
    assert batch.y[np.argsort(order)].tolist() == [[-100, 3, 4, 6], [8, 9, -100, -100]]
    assert batch.segments[np.argsort(order)].tolist() == [[0, 0, 0, 1], [0, 0, -1, -1]]
    assert [array.dtype.name for array in batch] == ["uint32", "int64", "int32"]
    assert loader.padding_share == 0.25
    assert loader.describe() == "3 examples; packed into 2 rows of 4 tokens, 25.0 % of them padding"


def test_only_what_is_longer_than_a_row_is_cut_and_it_is_said():
    long_prompt = example([1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 1])
    long_answer = example([1, 2, 3, 4, 5, 6, 7], [0, 1, 1, 1, 1, 1, 1])
    loader = PackedLoader([long_prompt, long_answer, B], block_size=4, batch_size=1, seed=0)
    assert loader.describe().startswith(
        "3 examples; 1 prompts lost their beginning to fit block_size=4; 1 answers lost their end; packed into 3"
    )
    rows = sorted(loader.batch(step).x[0].tolist() for step in range(3))
    assert rows == [[1, 2, 3, 4], [2, 3, 4, 5], [5, 0, 0, 0]]


def test_faults():
    with pytest.raises(DataError, match="no examples"):
        PackedLoader([], block_size=4, batch_size=1, seed=0)
    with pytest.raises(ConfigError, match="batch_size"):
        PackedLoader([A], block_size=4, batch_size=0, seed=0)
    with pytest.raises(InvalidValueError, match="step must be 0 or more"):
        PackedLoader([A], block_size=4, batch_size=1, seed=0).batch(-1)


def test_many_examples_are_packed_quickly_and_well():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 1025, 100_000).tolist()
    rows = pack(lengths, 1024, seed=3)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert max(sum(lengths[i] for i in row) for row in rows) <= 1024
    assert len(rows) * 1024 < 1.02 * sum(lengths)


def test_the_seed_decides_who_shares_a_row():
    lengths = [5] * 40
    assert pack(lengths, 20, seed=1) == pack(lengths, 20, seed=1) != pack(lengths, 20, seed=2)
