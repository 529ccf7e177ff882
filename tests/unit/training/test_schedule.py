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


def test_a_run_without_decay_steps_does_not_divide_by_zero():
    assert learning_rate_at(5, kind="linear", peak=1, minimum=0, warmup_steps=5, decay_steps=5) == 1


def test_the_config_resolves_its_defaults():
    config = TrainConfig(max_steps=50, learning_rate=1e-2)
    assert config.warmup == 5
    assert config.learning_rate_at(50) == pytest.approx(1e-3)
    assert TrainConfig(max_steps=10**6).warmup == 100
    resolved = config.resolved(64)
    assert (resolved.warmup_steps, resolved.min_learning_rate, resolved.block_size) == (5, 1e-3, 64)
