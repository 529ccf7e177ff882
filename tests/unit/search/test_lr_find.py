"""The range test: what it recommends, that it leaves the model as it was, and what it refuses."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext

import numpy as np
import pytest

import subgpt
from subgpt import ConfigError, TrainConfig
from subgpt.search.rates import judge

RATES = [10 ** (-5 + i / 10) for i in range(51)]


def curve(lowest):
    """A loss that falls by a logistic curve whose steepest point is half a power of ten before `lowest`."""
    losses = []
    for rate in RATES:
        x = math.log10(rate / lowest) + 0.75
        losses.append(
            4 - 2 / (1 + math.exp(-6 * x)) + (5 * math.log10(rate / lowest) if rate > lowest else 0)
        )
    return losses


def test_the_steepest_is_recommended_where_it_lies_well():
    losses = curve(1e-2)
    found = judge(RATES, losses, losses, diverged=True)
    assert found.lowest == pytest.approx(1e-2, rel=0.3)
    assert found.steepest == pytest.approx(10**-2.75, rel=0.3)
    assert found.recommended == "steepest"
    assert found.suggestion == found.steepest
    assert "falls fastest" in found.reason


def test_a_tenth_is_recommended_where_the_steepest_is_an_accident():
    losses = curve(1e-2)
    losses[5:] = [loss - 3 for loss in losses[5:]]  # one lucky batch at the beginning
    found = judge(RATES, losses, losses, diverged=True)
    assert found.recommended == "tenth"
    assert found.suggestion == pytest.approx(1e-3, rel=0.3)
    assert "a tenth of" in found.reason


def test_a_loss_that_never_falls_gives_none_and_says_so():
    found = judge(RATES, RATES, RATES, diverged=False)
    assert (found.suggestion, found.steepest, found.lowest, found.recommended) == (None, None, None, "")
    assert "did not fall" in str(found)


def test_a_range_that_ends_too_early_is_noticed():
    losses = [4 - i / 50 for i in range(51)]
    assert "a higher maximum" in judge(RATES, losses, losses, diverged=False).reason


def trained(model):
    """Everything of a model that training could change."""
    return {
        **{name: value.tobytes() for name, value in model.state_dict().items()},
        "rest": (
            model.dtype,
            model.gradient_checkpointing,
            model.native.dropout_state,
            model.adapters,
            model.num_trained(),
        ),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "muon", "gradient_accumulation_steps": 2, "gradient_checkpointing": True},
        {"freeze": "embeddings"},
        {"lora_r": 2},
        {"optimizer": "sgd", "dtype": "bfloat16"},
    ],
    ids=str,
)
def test_the_model_is_as_it_was(tiny, tokenizer, poems, changes):
    model = subgpt.GPT(tiny(dropout=0.1), seed=1)
    before = trained(model)
    found = subgpt.lr_find(model, tokenizer, poems, TrainConfig(batch_size=4, **changes), steps=20)
    assert trained(model) == before
    assert all(np.all(grad == 0) for grad in model.grads().values())
    assert found.learning_rates[0] == pytest.approx(1e-6)
    assert len(found.losses) == len(found.smoothed) == len(found.learning_rates) <= 20


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, "give them as freeze"),
        ({"freeze": "*"}, "nothing to be trained"),
        ({"freeze": "0"}, None),
        ({"lora_r": 2}, None),
    ],
    ids=str,
)
def test_what_was_frozen_stays_so_and_nothing_else(tiny, tokenizer, poems, changes, refused):
    model = subgpt.GPT(tiny(), seed=1)
    model.freeze(["embeddings"])
    before = trained(model)
    with nullcontext() if refused is None else pytest.raises(ConfigError, match=refused):
        subgpt.lr_find(model, tokenizer, poems, TrainConfig(batch_size=4, **changes), steps=10)
    assert trained(model) == before


def test_rates_rise_by_equal_factors_and_the_optimizer_uses_them(model, tokenizer, poems):
    found = subgpt.lr_find(
        model, tokenizer, poems, TrainConfig(batch_size=8), min_lr=1e-4, max_lr=1e-1, steps=31
    )
    factors = np.diff(np.log(found.learning_rates))
    assert factors == pytest.approx(np.full(len(factors), math.log(1000) / 30))
    assert found.learning_rates[-1] == pytest.approx(0.1)
    assert found.suggestion is not None
    assert min(found.smoothed) < found.smoothed[0] - 0.3


def test_it_ends_where_the_loss_is_beyond_bounds(model, tokenizer, poems):
    config = TrainConfig(batch_size=4, optimizer="sgd", max_grad_norm=0)
    found = subgpt.lr_find(model, tokenizer, poems, config, min_lr=1e-3, max_lr=1e6, steps=40)
    assert found.diverged
    assert len(found.losses) < 40
    assert found.suggestion is not None


def test_the_model_is_as_it_was_after_an_interruption(model, tokenizer, poems):
    before = trained(model)

    def interrupt(step, *_):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subgpt.lr_find(model, tokenizer, poems, TrainConfig(batch_size=4), on_step=interrupt)
    assert trained(model) == before


def test_questions_and_answers_are_fine(tokenizer, model):
    rows = [{"question": f"so {i}?", "answer": f"much {i}"} for i in range(40)]
    assert len(subgpt.lr_find(model, tokenizer, rows, TrainConfig(batch_size=4), steps=12).losses) == 12


def test_the_picture_and_the_numbers(model, tokenizer, poems, tmp_path):
    found = subgpt.lr_find(model, tokenizer, poems, TrainConfig(batch_size=4), steps=20)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["learning_rates"] == list(found.learning_rates)
    assert values["suggestion"] == found.suggestion
    pytest.importorskip("matplotlib")
    assert found.plot(tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_lr": 0.1, "max_lr": 0.01}, "the lower one first"),
        ({"min_lr": 0.0}, "above 0"),
        ({"steps": 2}, "at least 10"),
        ({"divergence": 1.0}, "above 1"),
        ({"config": TrainConfig(lora_r=2, quantize_base="int8")}, "quantize_base"),
    ],
)
def test_what_cannot_be_is_refused(model, tokenizer, poems, options, words):
    with pytest.raises(ConfigError, match=words):
        subgpt.lr_find(model, tokenizer, poems, **options)
