"""Sums of what several processes have, between threads that stand for them."""

import threading

import numpy as np
import pytest

from subgpt import _core
from subgpt.distributed.courier import Courier
from subgpt.distributed.exchange import Exchange
from subgpt.distributed.ownership import divide

BUCKETS = [(64, 200), (0, 64)]


class Threads:
    """The collective operations of a `Group`, among threads."""

    def __init__(self, size):
        self.size = size
        self._barrier = threading.Barrier(size, timeout=20)
        self._given = [None] * size
        self.sent = 0

    def of(self, rank):
        return Seat(self, rank)

    def swap(self, rank, value):
        self._given[rank] = value
        self._barrier.wait()
        every = list(self._given)
        self._barrier.wait()
        return every


class Seat:
    def __init__(self, threads, rank):
        self.threads, self.rank, self.size = threads, rank, threads.size

    def exchange(self, array, counts):
        self.threads.sent += array.nbytes
        ends = np.cumsum([0, *counts])
        pieces = [array[ends[i] : ends[i + 1]] for i in range(self.size)]
        return np.concatenate([theirs[self.rank] for theirs in self.threads.swap(self.rank, pieces)])

    def collect(self, piece, counts):
        self.threads.sent += piece.nbytes
        every = self.threads.swap(self.rank, piece)
        assert [len(each) for each in every] == list(counts)
        return np.concatenate(every)


def sums(size, compression, steps, gradients):
    """Exchange `gradients(rank, step)` a few times; give what each rank has in the end of each, and the bytes sent."""
    threads, out = Threads(size), {}

    def run(rank):
        counts = [divide(bucket, size) for bucket in BUCKETS]
        exchange = Exchange(threads.of(rank), BUCKETS, counts, compression)
        for step in range(steps):
            whole = np.zeros(200, np.float32)
            for number, (start, stop) in enumerate(BUCKETS):
                piece = exchange.reduce(number, gradients(rank, step)[start:stop].copy())
                low, high = exchange.own(number)
                assert len(piece) == high - low
                whole[start:stop] = exchange.spread(number, piece)
            out[rank, step] = whole

    workers = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert len(out) == size * steps
    return out, threads.sent


def noise(rank, step):
    return np.random.default_rng([rank, step]).standard_normal(200).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_have_the_sum_in_the_order_of_ranks(size):
    out, _ = sums(size, "none", 2, noise)
    for step in range(2):
        want = np.zeros(200, np.float32)
        for rank in range(size):
            want = want + noise(rank, step)
        for rank in range(size):
            np.testing.assert_array_equal(out[rank, step], want)


def test_half_the_bytes_carry_what_rounding_took_later():
    steps = 64
    exact, full = sums(3, "none", steps, noise)
    narrow, half = sums(3, "bf16", steps, noise)
    assert half == full / 2
    assert all((narrow[0, step] == narrow[2, step]).all() for step in range(steps))
    errors = np.array([narrow[0, step] - exact[0, step] for step in range(steps)])
    assert 1e-3 < np.abs(errors).max() < 0.1
    # Errors do not add up: what is missing at the end is about that of one step.
    assert np.abs(errors.sum(0)).max() < 2.5 * np.abs(errors).max()


def test_what_rounding_took_can_be_forgotten():
    exchange = Exchange(Threads(1).of(0), [(0, 16)], [[16]], "bf16")
    third = np.full(16, 1 / 3, np.float32)
    first = exchange.reduce(0, third)
    exchange.forget()
    np.testing.assert_array_equal(exchange.reduce(0, third), first)
    assert (exchange.reduce(0, third) != first).any()


def test_parts_and_counts_must_fit():
    with pytest.raises(ValueError, match="parts"):
        _core.sum_parts(np.zeros(7, np.float32), 2)
    with pytest.raises(TypeError, match="float32"):
        _core.sum_parts(np.zeros(8), 2)
    assert _core.sum_parts(np.zeros(0, np.float32), 3).shape == (0,)
    with pytest.raises(ValueError, match="residual"):
        _core.narrow_with_feedback(np.zeros(8, np.float32), np.zeros(7, np.float32))


def test_a_courier_keeps_the_order_and_raises_what_went_wrong():
    def work(number, values):
        if number == 2:
            raise OSError("the line is cut")
        return values + number

    courier = Courier(work)
    for number in range(2):
        courier.take(number, np.zeros(3, np.float32))
    assert [(number, values.tolist()) for number, values in courier.finish()] == [(0, [0] * 3), (1, [1] * 3)]
    assert courier.finish() == []
    courier.take(2, np.zeros(1, np.float32))
    with pytest.raises(OSError, match="the line is cut"):
        courier.finish()
    courier.close()
    courier._thread.join(10)
    assert not courier._thread.is_alive()
