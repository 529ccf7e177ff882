"""Recipes: every one holds together, stands below what is set, is written down, and is the run's own on resuming."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import subgpt
from subgpt import GPT, Callback, ConfigError, TrainConfig, finetune, recipe, recipe_names
from subgpt.finetuning import recipes

ROWS = [{"question": f"what is {n}?", "answer": f"a red {w}"} for n, w in enumerate(["cat", "plum"] * 6)]
FAST = {"max_steps": 4, "batch_size": 2, "eval_steps": 2, "recall_tokens": 0}


def settings_of(folder):
    return yaml.safe_load((folder / "training" / "config.yaml").read_text())["train"]


@pytest.fixture
def model(tiny):
    return GPT(tiny(block_size=48), seed=1)


def test_a_recipe_is_for_finetuning_alone(model, tokenizer):
    config = TrainConfig(recipe="qa", max_steps=1)
    pairs = [{"prompt": "a", "chosen": " so", "rejected": " no"}]
    for verb, source in ((subgpt.pretrain, ["so much depends"]), (subgpt.dpo, pairs)):
        with pytest.raises(ConfigError, match="recipe = 'qa' names settings of finetune"):
            verb(model, tokenizer, source, config, callbacks=())


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_whole_and_says_why(name):
    made = recipe(name)
    assert made.name == name
    assert all(isinstance(text, str) and text for text in (made.summary, made.data, made.probe))
    # What is decided before a recipe is read: templates and types by the model, places by the caller.
    early = {"chat_template", "dtype", "output_dir", "recipe", "seed", "block_size"}
    assert not early & set(made.settings)
    TrainConfig(**made.settings)
    lines = (
        (Path(recipes.__file__).parent / f"{name}.yaml").read_text().partition("settings:\n")[2].splitlines()
    )
    reasons = sum("#" in line for line in lines)
    assert reasons >= len(made.settings) - 3


@given(name=st.sampled_from(recipe_names()), steps=st.integers(1, 10**6), rate=st.floats(1e-9, 10))
def test_a_recipe_goes_with_any_length_and_rate(name, steps, rate):
    config = TrainConfig(recipe=name, max_steps=steps, learning_rate=rate).with_defaults(
        **recipe(name).settings
    )
    resolved = config.resolved(64)
    assert (resolved.max_steps, resolved.learning_rate) == (steps, rate)


def test_the_recipe_stands_below_what_is_set_and_above_the_defaults(model, tokenizer, tmp_path):
    config = TrainConfig(recipe="knowledge", max_steps=2, batch_size=2)
    finetune(model, tokenizer, ROWS, config, output_dir=tmp_path / "r", callbacks=())
    kept = settings_of(tmp_path / "r")
    assert kept["recipe"] == "knowledge"
    assert (kept["max_steps"], kept["batch_size"]) == (2, 2)
    for name in ("learning_rate", "val_fraction", "weight_decay", "probe_match"):
        assert kept[name] == recipe("knowledge").settings[name] != (1e-4 if name == "learning_rate" else None)


@pytest.mark.parametrize("name", ["knowlege", "", "../qa", "qa.yaml", "a/b"])
def test_an_unknown_recipe_is_named_before_anything_is_written(model, tokenizer, tmp_path, name):
    with pytest.raises(ConfigError, match="recipe"):
        finetune(model, tokenizer, ROWS, TrainConfig(recipe=name), output_dir=tmp_path / "r", callbacks=())
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_resumed_bit_for_bit_whatever_became_of_it(tiny, tokenizer, tmp_path, monkeypatch, name):
    if sys.platform == "win32":
        pytest.skip("signals are delivered differently on Windows")

    class Stop(Callback):
        def on_step(self, event):
            if event.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    def run(model, place, **more):
        config = TrainConfig(recipe=name, max_steps=6, batch_size=2)
        probes = {"seen": [{"question": "what is 1?", "answer": "a red 7"}]}
        return finetune(
            model, tokenizer, ROWS, config, probes=probes, output_dir=place, **{"callbacks": (), **more}
        )

    whole, cut = (GPT(tiny(block_size=48), seed=1) for _ in range(2))
    one = run(whole, tmp_path / "whole")
    assert run(cut, tmp_path / "cut", callbacks=[Stop()]).interrupted
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / f"{name}.yaml").write_text(
        yaml.safe_dump({**{k: v for k, v in asdict(recipe(name)).items() if k != "name"},
                        "settings": {"learning_rate": 0.5}})
    )  # fmt: skip
    monkeypatch.setattr(recipes, "_FOLDER", tmp_path / "recipes")
    two = run(cut, tmp_path / "cut", resume=True)
    assert two.losses == one.losses
    assert settings_of(tmp_path / "cut") == {
        **settings_of(tmp_path / "whole"),
        "output_dir": str(tmp_path / "cut"),
    }
    for key, value in whole.state_dict().items():
        assert value.tobytes() == cut.state_dict()[key].tobytes(), key


def test_another_recipe_is_refused_on_resuming(model, tokenizer, tmp_path):
    place = tmp_path / "r"
    finetune(model, tokenizer, ROWS, TrainConfig(recipe="qa", **FAST), output_dir=place, callbacks=())
    with pytest.raises(ConfigError, match="recipe was 'qa', is 'knowledge'"):
        finetune(
            model,
            tokenizer,
            ROWS,
            TrainConfig(recipe="knowledge"),
            output_dir=place,
            resume=True,
            callbacks=(),
        )


def test_pretraining_refuses_them(tiny, tokenizer, poems):
    config = TrainConfig(max_steps=2, recipe="knowledge")
    with pytest.raises(ConfigError, match="pretrain: recipe = 'knowledge' names settings of finetune"):
        subgpt.pretrain(GPT(tiny(), seed=1), tokenizer, iter(poems), config, callbacks=())
