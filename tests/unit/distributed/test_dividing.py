"""Who has which rows of an update, and which part of the gradients: everything once, nothing twice."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subgpt import GPT, ConfigError, GPTConfig, _core
from subgpt.data.loader import IGNORED
from subgpt.data.packing import PackedBatch
from subgpt.distributed.ownership import divide, own_range, snap
from subgpt.distributed.split import Split
from subgpt.model.listener import GradientListener
from subgpt.training.objective import NEXT_TOKEN

FEW = st.integers(1, 12)


@given(size=FEW, batch_size=FEW, passes=FEW)
def test_every_row_is_somebodys_and_nobodys_twice(size, batch_size, passes):
    try:
        splits = [
            Split.of(rank=rank, size=size, batch_size=batch_size, passes=passes) for rank in range(size)
        ]
    except ConfigError:
        assert (batch_size * passes) % size or batch_size % splits_of(size, passes)
        return
    had = sorted(
        (number, row)
        for split in splits
        for number in split.batches
        for row in range(*split.rows(batch_size))
    )
    assert had == [(number, row) for number in range(passes) for row in range(batch_size)]
    assert len({len(split.batches) for split in splits}) == 1
    assert len({stop - start for split in splits for start, stop in [split.rows(batch_size)]}) == 1


def splits_of(size, passes):
    return size // np.gcd(size, passes)


def test_what_cannot_be_divided_is_refused_with_two_ways_out():
    with pytest.raises(
        ConfigError, match=r"3 processes .* batch_size = 9, or gradient_accumulation_steps = 3"
    ):
        Split.of(rank=0, size=3, batch_size=8, passes=2)


@given(length=st.integers(0, 2000), size=FEW, begin=st.integers(0, 99))
def test_a_bucket_is_divided_without_gaps(length, size, begin):
    bucket = (begin, begin + length)
    counts = divide(bucket, size)
    assert len(counts) == size
    ends = [own_range(bucket, counts, rank) for rank in range(size)]
    assert ends[0][0] == begin
    assert ends[-1][1] == begin + length
    assert all(one[1] == other[0] for one, other in itertools.pairwise(ends))
    assert all(count >= 0 for count in counts)
    assert max(counts) <= length / size + 16


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), FEW, st.data())
def test_tensors_are_left_whole(lengths, size, data):
    starts = [0, *np.cumsum(lengths).tolist()]
    total = starts.pop()
    cuts = sorted(data.draw(st.sets(st.integers(1, total), max_size=6)) - {total}, reverse=True)
    bounds = [total, *cuts, 0]
    buckets = snap([(low, high) for high, low in itertools.pairwise(bounds)], starts)
    assert [low for low, _ in buckets][-1] == 0
    assert [high for _, high in buckets] == [total, *(low for low, _ in buckets[:-1])]
    for bucket in buckets:
        counts = divide(bucket, size, starts)
        pieces = [own_range(bucket, counts, rank) for rank in range(size)]
        assert sum(counts) == bucket[1] - bucket[0]
        assert all(start in starts or start == stop for start, stop in pieces)


@given(st.integers(1, 6), st.data())
def test_masks_of_parts_go_on_where_those_before_end(batches, data):
    parts = data.draw(st.integers(1, 3))
    counts = data.draw(
        st.lists(
            st.lists(st.integers(0, 2), min_size=parts, max_size=parts), min_size=batches, max_size=batches
        )
    )
    assume(any(map(any, counts)))
    live = [any(batch) for batch in counts]
    for number in range(batches):
        assert NEXT_TOKEN.masks(counts, number, 0, 3) == (sum(live[:number]), 3)
    assert NEXT_TOKEN.masks(counts, batches, 0, 0) == (sum(live), 0)


def test_rows_of_a_packed_batch_keep_what_belongs_to_them():
    arrays = [np.arange(12, dtype=t).reshape(4, 3) for t in (np.uint32, np.int64, np.int32)]
    part = NEXT_TOKEN.rows(PackedBatch(*arrays), 1, 3)
    assert isinstance(part, PackedBatch)
    assert all((array == np.arange(3, 9).reshape(2, 3)).all() for array in part)


def test_a_model_tells_of_its_gradients_while_it_computes():
    model = GPT(GPTConfig(vocab_size=40, block_size=8, n_layer=2, n_head=2, n_embd=16), seed=1)
    ids = np.arange(16, dtype=np.uint32).reshape(2, 8)
    targets = ids.astype(np.int64)
    targets[0, :3] = IGNORED
    buckets, heard = _core.gradient_buckets(model.native, 1000), []

    listener = GradientListener(buckets, lambda number, grads: heard.append((number, grads)))
    loss = model.backward(ids, targets, ignore_index=IGNORED, listener=listener)
    assert loss == pytest.approx(model.loss(ids, targets, ignore_index=IGNORED), rel=1e-6)
    assert [number for number, _ in heard] == list(range(len(buckets)))
    for (start, stop), (_, grads) in zip(buckets, heard, strict=True):
        np.testing.assert_array_equal(grads, _core.gradients(model.native, start, stop))
    squares = sum(_core.gradient_squares(model.native, *bucket) for bucket in buckets)
    assert squares**0.5 == pytest.approx(model.grad_norm(), rel=1e-6)


def test_an_error_of_the_listener_is_raised_and_ends_the_telling():
    model = GPT(GPTConfig(vocab_size=40, block_size=8, n_layer=2, n_head=2, n_embd=16), seed=1)
    calls = []

    def fails(number, _grads):
        calls.append(number)
        raise KeyError("not wanted")

    listener = GradientListener(_core.gradient_buckets(model.native, 500), fails)
    with pytest.raises(KeyError, match="not wanted"):
        model.backward([1, 2], [2, 3], listener=listener)
    assert calls == [0]
    with pytest.raises(ValueError, match="gradients"):
        model.backward([1, 2], [2, 3], listener=GradientListener([(0, 10**9)], fails))
