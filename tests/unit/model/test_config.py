"""GPTConfig: what it accepts, what it refuses, and Hugging Face's words for it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import subgpt
from subgpt.errors import ConfigError
from subgpt.model.config import GPTConfig
from subgpt.model.presets import MODERN, PRESETS

LLAMA = {**MODERN, "qk_norm": False, "tie_embeddings": False}
GEMMA = {
    **LLAMA, "activation": "gelu_new", "norm_unit_offset": True, "post_norm": True, "scale_embeddings": True,
}  # fmt: skip
WINDOWS = ["sliding_attention", "full_attention"] * 2
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
        ({"activation": "silu"}, "activation = 'silu' is not known with mlp = 'plain'"),
        ({"mlp": "gated", "activation": "relu2"}, "activation = 'relu2' is not known with mlp = 'gated'"),
        ({"mlp": "gate"}, "mlp = 'gate' is not known; did you mean 'gated'?"),
        ({"norm": "rmsnorm"}, "norm = 'rmsnorm' is not known; did you mean 'rms_norm'?"),
        ({"norm": None}, "norm = None is not known"),
        ({"norm_gain": False}, "norm_gain = False does not go with layer_norm"),
        ({"norm_gain": 1}, "norm_gain = 1 is not a truth value"),
        ({"position": "rope"}, "position = 'rope' is not known"),
        ({"position": "rotary", "n_embd": 12}, "n_head = 4 makes heads of 3, which rotary turns in pairs"),
        ({"rope_theta": 0.5}, "rope_theta = 0.5 is not in [1, 1e+12)"),
        ({"qk_norm": "yes"}, "qk_norm = 'yes' is not a truth value"),
        ({"n_kv_head": 3}, "n_kv_head = 3 does not divide n_head = 4"),
        ({"n_kv_head": 8}, "n_kv_head = 8 is out of range"),
        ({"head_dim": 0}, "head_dim = 0 is out of range"),
        ({"position": "rotary", "head_dim": 3}, "n_head = 4 makes heads of 3"),
        ({"norm_unit_offset": True}, "norm_unit_offset = True does not go with layer_norm"),
        ({"qkv_bias": 1}, "qkv_bias = 1 is not a truth value"),
        ({"attn_softcap": 0}, "attn_softcap = 0.0 is not above 0"),
        ({"logit_softcap": "30"}, "logit_softcap = '30' is not a number"),
        ({"query_pre_attn_scalar": -1}, "query_pre_attn_scalar = -1 is not in [0, 1e+06)"),
        ({"sliding_window": 0}, "sliding_window = 0 is out of range"),
        ({"layer_types": ["sliding_attention"] * 4}, "has sliding attention without a window"),
        ({"layer_types": "full_attention"}, "layer_types = 'full_attention' is not a list"),
        ({"layer_types": ["full_attention"] * 3}, "has 3 entries; give 4"),
        ({"layer_types": ["full"] * 4}, "has 'full' in it"),
        ({"rope_layers": [1, 0, 1, 0]}, "has 1 in it; known: True, False"),
        ({"rope_local_theta": 0}, "rope_local_theta = 0 is not in [1, 1e+12)"),
        ({"rope_scaling": 8}, "rope_scaling = 8 is not a mapping"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope_type = 'yarn' is not in this version"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor = None is not a number above 0"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_its_value(change, said):
    with pytest.raises(ConfigError) as caught:
        GPTConfig(**{**SHAPE, **change})
    assert said in str(caught.value)
    assert ";" in str(caught.value), "a remedy follows"


def test_every_preset_is_valid_and_the_core_accepts_it():
    for name in (*PRESETS, *(f"d{depth}" for depth in range(1, 49))):
        subgpt._core.check_config(GPTConfig.preset(name).to_native())
    assert GPTConfig.preset("gpt2").n_embd == 768
    assert GPTConfig.preset("nano", vocab_size=100, dropout=0.1).dropout == 0.1


def test_depth_is_the_one_dial():
    shapes = [GPTConfig.preset(f"d{depth}") for depth in (1, 4, 12)]
    assert [(c.n_layer, c.n_head, c.n_embd, c.head_size) for c in shapes] == [
        (1, 1, 64, 64), (4, 4, 256, 64), (12, 12, 768, 64),
    ]  # fmt: skip
    assert all({**c.to_dict(), **MODERN} == c.to_dict() for c in shapes)
    changed = GPTConfig.preset("d6", vocab_size=100, n_embd=768)
    assert (changed.vocab_size, changed.n_layer, changed.head_size) == (100, 6, 128)
    for wrong in ("d0", "d49", "d" + "9" * 9):
        with pytest.raises(ConfigError, match="depths go from d1 to d48"):
            GPTConfig.preset(wrong)


def test_the_mlps_width_follows_from_its_shape():
    assert GPTConfig(**SHAPE).inner_size == 512
    gated = GPTConfig(**SHAPE, mlp="gated", activation="silu")
    assert gated.inner_size == 336
    assert json.loads(gated.to_native())["n_inner"] == 336
    assert gated.replace(mlp="plain", activation="relu2").inner_size == 512


def test_the_modern_nano_has_no_more_parameters_than_nanogpts():
    modern, nanogpt = (GPTConfig.preset(name).num_params() for name in ("nano-modern", "nanogpt-cpu"))
    assert 0.95 * nanogpt < modern <= nanogpt


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": False, "tie_embeddings": False},
        {"norm": "rms_norm", "norm_gain": False, "qk_norm": True, "activation": "relu2"},
        {**MODERN, "mlp": "gated", "activation": "silu", "n_kv_head": 2},
        {"mlp": "gated", "activation": "silu", "position": "rotary", "bias": True, "n_inner": 7},
    ],
)
def test_parameters_are_counted_without_a_model(changes):
    config = GPTConfig(**{**SHAPE, "n_layer": 2}, **changes)
    assert config.num_params() == subgpt.GPT(config, seed=0).num_params()


def test_nano_has_one_to_three_million_parameters():
    model = subgpt.GPT(GPTConfig.preset("nano"), seed=0)
    assert 1e6 < model.num_params() < 3e6


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"activation": "relu2"}, "gpt2"),
        ({"sliding_window": 9}, "subgpt"),
        ({"sliding_window": 9, "layer_types": WINDOWS}, "subgpt"),
        ({**MODERN, "qk_norm": True, "mlp": "gated", "activation": "silu"}, "qwen3"),
        ({**MODERN, "qk_norm": True, "mlp": "gated", "activation": "silu", "n_inner": 96}, "qwen3"),
        ({**MODERN, "qk_norm": False, "mlp": "gated", "activation": "silu", "n_kv_head": 2}, "llama"),
        ({**MODERN, "mlp": "plain", "activation": "relu2", "norm_gain": False}, "subgpt"),
        ({**LLAMA, "mlp": "plain", "activation": "relu2", "n_kv_head": 2}, "arcee"),
        ({"norm": "rms_norm", "rope_theta": 5e5}, "subgpt"),
        ({**LLAMA, "head_dim": 24, "rope_scaling": {"rope_type": "linear", "factor": 4}}, "llama"),
        ({**LLAMA, "sliding_window": 9}, "mistral"),
        ({**LLAMA, "qkv_bias": True, "n_kv_head": 1}, "qwen2"),
        ({**LLAMA, "qk_norm": True, "sliding_window": 9, "layer_types": WINDOWS}, "qwen3"),
        ({**LLAMA, "rope_layers": [True, False, True, True]}, "smollm3"),
        (
            {**GEMMA, "sliding_window": 9, "layer_types": WINDOWS, "attn_softcap": 50, "logit_softcap": 30},
            "gemma2",
        ),
        ({**GEMMA, "qk_norm": True, "rope_local_theta": 1e3, "query_pre_attn_scalar": 20}, "gemma3_text"),
        ({**GEMMA, "qk_norm": True, "rope_local_theta": 1e3, "logit_softcap": 30}, "gemma3_text"),
        ({**GEMMA, "qk_norm": True, "rope_local_theta": 1e3, "attn_softcap": 50}, "subgpt"),
        ({**LLAMA, "activation": "gelu_new"}, "subgpt"),
        ({**LLAMA, "sliding_window": 9, "layer_types": WINDOWS}, "smollm3"),
    ],
)
def test_each_block_is_written_as_the_family_that_computes_it(changes, kind):
    config = GPTConfig(**SHAPE, dropout=0.25, **changes)
    values = json.loads(json.dumps(config.to_hf(eos_token_id=3)))
    assert values["model_type"] == kind
    assert values["vocab_size"] == 65
    assert list(values) == sorted(values)
    assert GPTConfig.from_hf(values) == config


def test_others_files_of_llama_and_qwen3_are_understood():
    tiny = {
        "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
    }  # fmt: skip
    llama = GPTConfig.from_hf({"model_type": "llama", "rope_theta": 5e5, **tiny})
    assert (llama.kv_heads, llama.inner_size, llama.rope_theta, llama.qk_norm) == (2, 160, 5e5, False)
    newer = {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "head_dim": 16}
    qwen = GPTConfig.from_hf({"model_type": "qwen3", **tiny, **newer})
    assert (qwen.qk_norm, qwen.rope_theta, qwen.tie_embeddings) == (True, 1e6, False)
    for change, said in [
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4}}, "rope_parameters"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling: factor = None"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "differ; remove one"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"use_sliding_window": True, "layer_types": 7}, "layer_types = 7 is not a list"),
        ({"attention_bias": True}, "attention_bias"),
    ]:
        with pytest.raises(ConfigError, match=r"there/config\.json") as caught:
            GPTConfig.from_hf({"model_type": "qwen3", **tiny, **newer, **change}, "there/config.json")
        assert said in str(caught.value)


def test_what_a_file_leaves_out_is_as_in_the_family():
    smollm = GPTConfig.from_hf({"model_type": "smollm3", "num_hidden_layers": 8})
    assert smollm.rope_layers == (True, True, True, False) * 2
    assert (smollm.rope_theta, smollm.kv_heads, smollm.tie_embeddings) == (2e6, 4, True)
    gemma2 = GPTConfig.from_hf({"model_type": "gemma2", "num_hidden_layers": 4})
    assert gemma2.windows == (4096, None, 4096, None)
    assert (gemma2.attn_softcap, gemma2.logit_softcap, gemma2.query_pre_attn_scalar) == (50, 30, 256)
    older = {
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_local_base_freq": 5000,
        "sliding_window": 512,
    }
    gemma3 = GPTConfig.from_hf({"model_type": "gemma3_text", "num_hidden_layers": 7, **older})
    assert gemma3.windows == (512,) * 5 + (None, 512)
    assert (gemma3.rope_theta, gemma3.rope_local_theta, gemma3.rope_scaling.factor) == (1e6, 5000, 8)
    assert GPTConfig.from_hf({"model_type": "mistral"}).windows == (4096,) * 32
    arcee = GPTConfig.from_hf({"model_type": "arcee"})
    assert (arcee.mlp, arcee.activation, arcee.inner_size, arcee.block_size) == (
        "plain",
        "relu2",
        18432,
        4096,
    )
    assert GPTConfig.from_hf({"model_type": "mistral", "sliding_window": None}).windows == (None,) * 32
    slides = {
        "model_type": "qwen2",
        "num_hidden_layers": 4,
        "use_sliding_window": True,
        "max_window_layers": 3,
    }
    assert GPTConfig.from_hf(slides).windows == (None, None, None, 4096)
    assert not any(GPTConfig.from_hf({**slides, "use_sliding_window": False}).windows)


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": None},
        {"model_type": "smollm3", "no_rope_layers": [1, 2]},
        {"model_type": "smollm3", "no_rope_layer_interval": 0},
        {"model_type": "smollm3", "num_hidden_layers": "8"},
        {"model_type": "gemma2", "sliding_window_pattern": "x"},
        {"model_type": "gemma2", "num_hidden_layers": 2**60},
        {"model_type": "gemma3_text", "rope_parameters": {"rope_type": "default"}},
        {"model_type": "gemma3_text", "use_bidirectional_attention": True},
        {"model_type": "llama", "rope_parameters": []},
        {"model_type": "llama", "num_attention_heads": None},
        {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 0, "sliding_window": None},
    ],
)
def test_files_that_cannot_be_are_refused(values):
    with pytest.raises(ConfigError, match=r"there/config\.json"):
        GPTConfig.from_hf(values, "there/config.json")


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
        ({"model_type": ["gpt2"]}, "model_type ['gpt2']"),
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
