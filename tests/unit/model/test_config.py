"""GPTConfig: what it accepts, what it refuses, and Hugging Face's words for it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import subgpt
from subgpt.errors import ConfigError
from subgpt.model.config import GPTConfig
from subgpt.model.presets import PRESETS

SHAPE = {"vocab_size": 65, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128}


def test_fields_are_checked_and_immutable():
    config = GPTConfig(**SHAPE, n_inner=np.int64(100))
    assert config.head_size == 32
    assert config.inner_size == 100
    assert type(config.n_inner) is int
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.n_layer = 5
    assert GPTConfig(65, 64, 4, 4, 128) == GPTConfig(**SHAPE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_layer": 0}, "n_layer = 0 is out of range"),
        ({"n_layer": -3}, "n_layer = -3 is out of range"),
        ({"vocab_size": 2**40}, "vocab_size = 1099511627776 is out of range"),
        ({"block_size": 1.5}, "block_size = 1.5 is not an integer"),
        ({"block_size": True}, "block_size = True is not an integer"),
        ({"n_embd": 130}, "n_embd = 130 is not a multiple of n_head = 4; 128 or 132 would be"),
        ({"n_inner": 0}, "n_inner = 0 is out of range"),
        ({"bias": 1}, "bias = 1 is not a truth value"),
        ({"dropout": 1.0}, "dropout = 1.0 is not in [0, 1)"),
        ({"dropout": float("nan")}, "dropout = nan is not in [0, 1)"),
        ({"dropout": "0.1"}, "dropout = '0.1' is not a number"),
        ({"norm_eps": 0}, "norm_eps = 0.0 is not above 0"),
        ({"activation": "silu"}, "activation = 'silu' is not in this version"),
        ({"norm": "rms_norm"}, "norm = 'rms_norm' is not in this version"),
        ({"position": "rope"}, "position = 'rope' is not in this version"),
        ({"n_kv_head": 2}, "n_kv_head = 2 is not in this version"),
        ({"head_dim": 64}, "head_dim = 64 is not in this version"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_its_value(change, said):
    with pytest.raises(ConfigError) as caught:
        GPTConfig(**{**SHAPE, **change})
    assert said in str(caught.value)
    assert ";" in str(caught.value), "a remedy follows"


def test_every_preset_is_valid_and_the_core_accepts_it():
    for name in PRESETS:
        subgpt._core.check_config(GPTConfig.preset(name).to_native())
    assert GPTConfig.preset("gpt2").n_embd == 768
    assert GPTConfig.preset("nano", vocab_size=100, dropout=0.1).dropout == 0.1


def test_nano_has_one_to_three_million_parameters():
    model = subgpt.GPT(GPTConfig.preset("nano"), seed=0)
    assert 1e6 < model.num_params() < 3e6


@pytest.mark.parametrize(("name", "meant"), [("nanno", "nano"), ("gpt-2", "gpt2"), ("GPT2", "gpt2")])
def test_an_unknown_preset_names_the_nearest(name, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        GPTConfig.preset(name)


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(ConfigError, match="no field 'n_layers'; did you mean 'n_layer'"):
        GPTConfig.preset("nano", n_layers=3)
    with pytest.raises(ConfigError, match="block_size, n_head missing"):
        GPTConfig.from_dict({"vocab_size": 5, "n_layer": 1, "n_embd": 4})


@pytest.mark.parametrize(
    "changes", [{}, {"bias": False}, {"activation": "gelu_new", "tie_embeddings": False}]
)
def test_dicts_and_hugging_face_json_come_back_the_same(changes):
    config = GPTConfig(**SHAPE, n_inner=77, dropout=0.25, norm_eps=1e-6, **changes)
    assert GPTConfig.from_dict(config.to_dict()) == config
    text = json.dumps(config.to_hf(eos_token_id=3))
    assert GPTConfig.from_hf(json.loads(text)) == config
    assert json.loads(text)["architectures"] == ["GPT2LMHeadModel"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "bert"}, "model_type 'bert'"),
        ({"model_type": None}, "no model_type"),
        ({"activation_function": "relu"}, "activation_function = 'relu'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"attn_pdrop": 0.3}, "set them equal"),
        ({"n_head": 0}, "n_head = 0"),
        ({"subgpt": 3}, "entry 'subgpt'"),
    ],
)
def test_a_config_of_another_model_is_refused_by_place_and_field(change, said):
    values = {**GPTConfig(**SHAPE).to_hf(), **change}
    with pytest.raises(ConfigError) as caught:
        GPTConfig.from_hf(values, "there/config.json")
    assert "there/config.json" in str(caught.value)
    assert said in str(caught.value)


def test_openais_own_config_has_its_defaults():
    config = GPTConfig.from_hf({"model_type": "gpt2", "n_ctx": 1024})
    assert config == GPTConfig.preset("gpt2", dropout=0.1)
