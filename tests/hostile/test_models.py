"""Model directories whose files do not fit each other, and adapters that do not fit: named, and nothing is done."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import subgpt
from subgpt import _core
from subgpt.adapters.config import LoraConfig

SHAPE = subgpt.GPTConfig(vocab_size=20, block_size=8, n_layer=1, n_head=2, n_embd=8, bias=False)
X = np.arange(6).reshape(1, 6)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    subgpt.GPT(SHAPE, seed=1).save(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    """A directory of its own, with other values in one of its JSON files."""

    def make(file: str = "config.json", source: Path = saved, **changes: object) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(source, folder)
        values = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**values, **changes}))
        return folder

    return make


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_embd": 16}, r"model\.safetensors: tensor transformer\.wte\.weight has shape \[20, 8\]"),
        ({"n_layer": 2}, r"has no tensor transformer\.h\.1\.ln_1\.weight"),
        ({"n_positions": 9}, r"transformer\.wpe\.weight has shape \[8, 8\].* \[9, 8\]"),
        ({"tie_word_embeddings": False}, r"has no tensor lm_head\.weight"),
        ({"n_head": 3}, r"n_embd = 8 is not a multiple of n_head = 3; 6 or 9 would be"),
        ({"n_head": 0}, "n_head = 0 is out of range"),
        ({"n_layer": -1}, "n_layer = -1 is out of range"),
        ({"n_layer": 2**70}, f"n_layer = {2**70} is out of range"),
        ({"n_embd": 8.0}, "n_embd = 8.0 is not an integer"),
        ({"n_embd": True}, "n_embd = True is not an integer"),
        ({"vocab_size": None}, "vocab_size"),
        ({"vocab_size": 16_000_000}, "too few for the"),
        ({"layer_norm_epsilon": float("nan")}, "norm_eps = nan"),
        ({"model_type": "frog"}, "model_type 'frog'; this version loads"),
        ({"model_type": "llama"}, "config.json"),
    ],
)
def test_a_config_that_does_not_fit_its_weights(copy, changes, words):
    with pytest.raises((subgpt.ConfigError, subgpt.CheckpointError), match=words):
        subgpt.load(copy(**changes))


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "frog", "factor": 2},
        {"rope_type": "linear"},
        {"rope_type": "linear", "factor": -1},
        3,
        [],
    ],
)
def test_a_rope_scaling_that_is_none(tmp_path, scaling):
    shape = {"position": "rotary", "norm": "rms_norm", "mlp": "gated", "activation": "silu", "bias": False}
    model = subgpt.GPT(
        subgpt.GPTConfig(vocab_size=20, block_size=8, n_layer=1, n_head=2, n_embd=8, **shape), seed=1
    )
    model.save(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["model_type"] == "llama"
    values = {name: value for name, value in values.items() if name != "rope_parameters"}
    (tmp_path / "config.json").write_text(json.dumps({**values, "rope_scaling": scaling}))
    with pytest.raises(subgpt.ConfigError, match=r"config\.json.*(rope|factor)"):
        subgpt.load(tmp_path)


def test_shards_that_hold_a_tensor_twice(copy):
    folder = copy()
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        subgpt.CheckpointError, match=r"b\.safetensors: holds tensor transformer\..* a second time"
    ):
        subgpt.load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_opened_and_named_where_they_count(saved, tmp_path, value):
    """A file may be looked at and mended; what is computed with it is no number, and no text is made of it."""
    model, _ = subgpt.load(saved)
    weights = model.state_dict()
    weights["transformer.wte.weight"][3, 0] = value
    model.load_state_dict(weights)
    model.save(tmp_path / "broken")
    broken, _ = subgpt.load(tmp_path / "broken")
    assert not np.isfinite(broken.loss(X, X))
    with pytest.raises(subgpt.InvalidValueError, match="weights are damaged"):
        broken.generate([1, 3], max_new_tokens=4, temperature=0)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    model = subgpt.GPT(SHAPE, seed=1)
    model.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=("c_fc",)))
    model.save_adapter(folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"r": 0}, "r = 0 is not a rank"),
        ({"r": -1}, "r = -1 is not a rank"),
        ({"r": 3}, "has rank 2, but adapter_config.json says 3"),
        ({"r": 10**9}, "r = 1000000000 is not a rank"),
        ({"lora_alpha": float("nan")}, "lora_alpha = nan is no number"),
        ({"lora_alpha": 0}, "no effect"),
        ({"alpha_pattern": {"c_fc": float("inf")}}, "lora_alpha = inf"),
        ({"rank_pattern": {"c_fc": "x"}}, "r = 'x' is not a rank"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3'"),
        ({"use_dora": True}, "asks for lora_A, lora_B and lora_magnitude_vector"),
    ],
)
def test_an_adapter_that_cannot_be(copy, adapter, changes, words):
    model = subgpt.GPT(SHAPE, seed=1)
    before = model.loss(X, X)
    with pytest.raises((subgpt.ConfigError, subgpt.CheckpointError), match=words) as caught:
        model.load_adapter(copy("adapter_config.json", adapter, **changes))
    assert "copy" in str(caught.value)  # the directory is named
    assert (model.loss(X, X), model.active_adapter) == (before, None)


def test_an_adapter_of_another_base_or_for_no_layer(adapter):
    with pytest.raises(subgpt.CheckpointError, match="trained over other weights"):
        subgpt.GPT(SHAPE, seed=2).load_adapter(adapter)
    with pytest.raises(subgpt.CheckpointError, match=r"adapter"):
        subgpt.GPT(SHAPE.replace(n_embd=16), seed=1).load_adapter(adapter, check_base=False)
    with pytest.raises(subgpt.ConfigError, match="no linear layer 'nope'"):
        subgpt.GPT(SHAPE, seed=1).add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=("nope",)))


def test_an_adapter_without_effect_changes_no_bit(adapter):
    model = subgpt.GPT(SHAPE, seed=1)
    before = model.forward(X)
    model.load_adapter(adapter)  # its B is zeros: nobody has trained it
    assert np.array_equal(model.forward(X), before)


TOKENIZER = {
    "tokenizer.ggml.model": ("str", "gpt2"),
    "tokenizer.ggml.pre": ("str", "gpt-2"),
    "tokenizer.ggml.tokens": ("[str]", ["a", "b", "ab"]),
    "tokenizer.ggml.merges": ("[str]", ["a b"]),
    "tokenizer.ggml.token_type": ("[i32]", [1, 1, 1]),
    "tokenizer.ggml.scores": ("[f32]", [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("model", ["gpt2", "llama"])
@pytest.mark.parametrize("name", [name for name in TOKENIZER if not name.endswith(".model")])
@pytest.mark.parametrize(
    "entry", [("u32", 3), ("str", "x"), ("[str]", ["x"] * 3), ("[i32]", [1, 2, 3]), ("[f32]", [])]
)
def test_entries_of_other_types_in_a_gguf_file(tmp_path, model, name, entry):
    entries = {**TOKENIZER, "tokenizer.ggml.model": ("str", model), name: entry}
    path = tmp_path / "odd.gguf"
    listed = [(key, kind, value) for key, (kind, value) in entries.items()]
    _core.write_gguf(str(path), [("general.architecture", "str", "gpt2"), *listed])
    with contextlib.suppress(subgpt.TokenizerError):  # what is left of some is a tokenizer
        subgpt.Tokenizer.load(path)
