"""Pretraining on sets of ids: the losses of a run on the text, mixtures, going on."""

from __future__ import annotations

import numpy as np
import pytest

import subgpt
from subgpt import GPT, CheckpointError, DataError, TrainConfig, prepare_data

SETTINGS = {"max_steps": 6, "batch_size": 4, "eval_steps": 3, "save_steps": 3, "learning_rate": 1e-2}


@pytest.fixture
def sets(poems, tokenizer, tmp_path):
    """A set of all poems, and one of some of them."""
    options = {"val_fraction": 0.3, "shard_tokens": 150, "exact_duplicates": False}
    prepare_data(iter(poems), tmp_path / "all", tokenizer, **options)
    prepare_data(iter(poems[:7]), tmp_path / "some", tokenizer, **options)
    return tmp_path / "all", tmp_path / "some"


def run(tiny, tokenizer, source, **changes):
    options = {key: changes.pop(key) for key in ("output_dir", "resume") if key in changes}
    model = GPT(tiny(), seed=1)
    config = TrainConfig(**{**SETTINGS, "val_fraction": 0.3, **changes})
    return subgpt.pretrain(model, tokenizer, source, config, callbacks=(), **options)


@pytest.mark.parametrize("packing", [False, True])
def test_a_prepared_set_trains_as_its_text(tiny, tokenizer, poems, sets, packing):
    text = run(tiny, tokenizer, iter(poems), packing=packing)
    ids = run(tiny, tokenizer, sets[0], packing=packing)
    assert ids.losses == text.losses
    assert ids.val_losses == text.val_losses


def test_weights_are_named_in_either_way_and_belong_to_the_data(tiny, tokenizer, sets, tmp_path):
    by_mapping = run(tiny, tokenizer, {sets[0]: 0.25, sets[1]: 0.75})
    named = [f"{sets[0]}:1", f"{sets[1]}:3"]
    by_name = run(tiny, tokenizer, named, output_dir=tmp_path / "run")
    assert by_name.losses == by_mapping.losses
    with pytest.raises(CheckpointError, match="the data has changed"):
        run(tiny, tokenizer, [sets[0], sets[1]], output_dir=tmp_path / "run", resume=True)


def test_a_mixture_resumed_has_the_losses_of_one_that_never_stopped(tiny, tokenizer, sets, tmp_path):
    options = {"lr_scheduler_type": "constant", "warmup_steps": 0}
    whole = run(tiny, tokenizer, list(sets), max_steps=8, **options)
    run(tiny, tokenizer, list(sets), max_steps=5, output_dir=tmp_path / "run", **options)
    model = GPT(tiny(), seed=1)
    resumed = subgpt.pretrain(
        model,
        tokenizer,
        list(sets),
        TrainConfig(max_steps=8),
        output_dir=tmp_path / "run",
        resume=True,
        callbacks=(),
    )
    assert resumed.losses == whole.losses
    assert resumed.val_losses[-1] == whole.val_losses[-1]


def test_all_that_is_held_out_is_measured(tiny, tokenizer, sets):
    held = []

    class Look(subgpt.Callback):
        def on_start(self, start):
            held.append(start.val_tokens)
            self.notes = start.notes

    look = Look()
    config = TrainConfig(**SETTINGS, eval_batches=0)
    subgpt.pretrain(GPT(tiny(), seed=1), tokenizer, list(sets), config, callbacks=[look])
    alone = []
    for one in sets:
        subgpt.pretrain(GPT(tiny(), seed=1), tokenizer, one, config, callbacks=[Look()])
        alone.append(held[-1])
    assert held[0] == sum(alone)
    assert any("windows are drawn from" in note for note in look.notes)


def test_what_cannot_be_trained_on(tiny, tokenizer, sets, tmp_path):
    np.zeros(5, np.uint16).tofile(tmp_path / "val.bin")
    with pytest.raises(DataError, match="only to validate"):
        run(tiny, tokenizer, tmp_path / "val.bin")
    np.zeros(5, np.uint16).tofile(tmp_path / "train.bin")
    with pytest.raises(DataError, match=r"train\.bin: the corpus has 5 tokens, but a window"):
        run(tiny, tokenizer, [tmp_path / "train.bin", sets[0]])
