"""The learning rate of a step, on values a person can check."""

from __future__ import annotations

import math

import pytest

from subgpt import TrainConfig
from subgpt.training.schedule import learning_rate_at

SHAPE = {"peak": 1.0, "minimum": 0.1, "warmup_steps": 4, "decay_steps": 14}


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_warm_up_is_nanogpts(kind):
    assert [learning_rate_at(s, kind=kind, **SHAPE) for s in range(5)] == [0.2, 0.4, 0.6, 0.8, 1.0]


def test_the_three_shapes():
    at = {
        kind: [learning_rate_at(s, kind=kind, **SHAPE) for s in (9, 14, 99)]
        for kind in ("constant", "linear", "cosine")
    }
    assert at["constant"] == [1.0, 1.0, 1.0]
    assert at["linear"] == pytest.approx([0.55, 0.1, 0.1])
    assert at["cosine"] == pytest.approx([0.55, 0.1, 0.1])
    quarter = learning_rate_at(6, kind="cosine", **SHAPE)
    assert quarter == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 0.2)))


@pytest.mark.parametrize(
    ("decay_type", "halfway"), [("linear", 0.55), ("cosine", 0.55), ("1-sqrt", 1 - 0.9 * math.sqrt(0.5))]
)
def test_warmup_stable_decay_holds_and_then_falls(decay_type, halfway):
    settings = {**SHAPE, "kind": "warmup_stable_decay", "num_decay_steps": 4, "decay_type": decay_type}
    rates = [learning_rate_at(s, **settings) for s in range(20)]
    assert rates[:4] == [0.2, 0.4, 0.6, 0.8]
    assert rates[4:11] == [1.0] * 7
    assert rates[12] == pytest.approx(halfway)
    assert rates[14:] == pytest.approx([0.1] * 6)
    assert sorted(rates[10:15], reverse=True) == rates[10:15]


def test_the_fall_of_a_longer_run_only_begins_later():
    """What is before the fall is the same for every length: a checkpoint there serves all of them."""
    short, long = (
        TrainConfig(lr_scheduler_type="warmup_stable_decay", max_steps=n, warmup_steps=5, num_decay_steps=20)
        for n in (100, 200)
    )
    assert [short.learning_rate_at(s) for s in range(80)] == [long.learning_rate_at(s) for s in range(80)]
    assert short.learning_rate_at(100) == pytest.approx(long.learning_rate_at(200))
    resolved = TrainConfig(lr_scheduler_type="warmup_stable_decay", max_steps=100).resolved(8)
    assert (resolved.num_decay_steps, TrainConfig().resolved(8).num_decay_steps) == (40, None)


def test_a_fall_of_no_steps_comes_after_the_last():
    settings = {**SHAPE, "kind": "warmup_stable_decay"}
    assert [learning_rate_at(s, **settings) for s in (13, 14, 15)] == [1.0, 1.0, 0.1]
    # Without a word about it the fall is a line.
    assert learning_rate_at(11, num_decay_steps=4, **settings) == pytest.approx(1.0 - 0.9 / 4)


def test_a_rate_without_warm_up_is_the_highest_from_the_first_step_on():
    settings = {"kind": "linear", "peak": 0.5, "minimum": 0.0, "decay_steps": 2}
    assert [learning_rate_at(s, warmup_steps=0, **settings) for s in range(3)] == [0.5, 0.25, 0.0]
    assert [learning_rate_at(s, warmup_steps=1, **settings) for s in range(3)] == [0.25, 0.5, 0.0]


def test_a_run_without_decay_steps_does_not_divide_by_zero():
    assert learning_rate_at(5, kind="linear", peak=1, minimum=0, warmup_steps=5, decay_steps=5) == 1


def test_the_config_resolves_its_defaults():
    config = TrainConfig(max_steps=50, learning_rate=1e-2)
    assert config.warmup == 5
    assert config.learning_rate_at(50) == pytest.approx(1e-3)
    assert TrainConfig(max_steps=10**6).warmup == 100
    resolved = config.resolved(64)
    assert (resolved.warmup_steps, resolved.min_learning_rate, resolved.block_size) == (5, 1e-3, 64)
