"""Adapters that peft saved, against PyTorch in float64 (../shared/ref/adapters), and what is no adapter of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import subgpt
from subgpt import GPT, GPTConfig, load
from subgpt.adapters.config import LoraConfig
from subgpt.adapters.files import Adapter, Layer, load_adapter, save_adapter
from subgpt.adapters.merge import merge_adapter
from subgpt.errors import CheckpointError, ConfigError, MissingFileError, SubgptError


@pytest.fixture(params=["lora", "dora"])
def folder(request, shared: Path) -> Path:
    return shared / "ref" / "adapters" / request.param


def test_merged_it_is_what_peft_computes(folder: Path, shared: Path):
    model, _ = load(shared / "ref" / "models" / "llama")
    adapter = load_adapter(folder)
    with np.load(folder / "reference.npz") as reference:
        ids, labels = reference["input_ids"], reference["labels"]
        assert np.abs(model.forward(ids) - reference["base_logits"]).max() < 1e-4
        merge_adapter(model, adapter)
        assert np.abs(model.forward(ids) - reference["logits_f64"]).max() < 1e-4
        assert abs(model.loss(ids[:, :-1], labels[:, 1:]) - reference["loss_f64"]) < 1e-5
        state = model.state_dict()
        for key in reference.files:
            if key.startswith("merged/"):
                np.testing.assert_allclose(
                    state[key.removeprefix("merged/")], reference[key], rtol=0, atol=1e-6
                )


def test_written_and_read_it_is_the_same(folder: Path, tmp_path: Path):
    adapter = load_adapter(folder)
    save_adapter(adapter, tmp_path / "again")
    again = load_adapter(tmp_path / "again")
    assert again.config == adapter.config
    assert again.layers.keys() == adapter.layers.keys()
    for module, layer in adapter.layers.items():
        for one, other in zip(layer, again.layers[module], strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore")
def test_peft_opens_what_is_written(folder: Path, shared: Path, tmp_path: Path):
    torch = pytest.importorskip("torch", reason="torch is an extra: pip install 'subgpt[parity]'")
    peft = pytest.importorskip("peft", reason="pip install peft")
    transformers = pytest.importorskip("transformers", reason="pip install 'subgpt[parity]'")
    save_adapter(load_adapter(folder), tmp_path / "again")
    base = transformers.AutoModelForCausalLM.from_pretrained(shared / "ref" / "models" / "llama")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "again")
    with np.load(folder / "reference.npz") as reference, torch.no_grad():
        logits = theirs(torch.tensor(reference["input_ids"])).logits.numpy()
        np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=1e-5)


def adapter_of(modules: dict[str, tuple[int, int]], **settings) -> Adapter:
    rng = np.random.default_rng(5)
    config = LoraConfig(**{"r": 2, "lora_alpha": 6, **settings})
    ranks = dict(config.rank_pattern)
    layers = {}
    for module, (n_in, n_out) in modules.items():
        rank = next((r for key, r in ranks.items() if module.endswith(key)), config.r)
        a, b = (rng.normal(0, 0.3, shape).astype("f4") for shape in ((rank, n_in), (n_out, rank)))
        layers[module] = Layer(a, b)
    return Adapter(config, layers)


def test_gpt2s_layers_lie_the_other_way_round():
    model = GPT(GPTConfig(11, 8, 1, 2, 8), seed=1)
    name = "transformer.h.0.mlp.c_fc"
    adapter = adapter_of({name: (8, 32)}, use_rslora=True)
    before = model.state_dict()[f"{name}.weight"]
    merge_adapter(model, adapter, weight=0.5)
    layer = adapter.layers[name]
    expected = before + 0.5 * 6 / np.sqrt(2) * (layer.b @ layer.a).T
    np.testing.assert_allclose(model.state_dict()[f"{name}.weight"], expected, rtol=0, atol=1e-6)


def test_ranks_and_alphas_of_single_layers():
    config = LoraConfig(r=2, lora_alpha=6, rank_pattern=(("c_fc", 3),), alpha_pattern=(("h.0.mlp.c_fc", 12),))
    assert config.scale("transformer.h.0.mlp.c_fc") == 4
    assert config.scale("transformer.h.1.mlp.c_fc") == 2
    assert config.scale("transformer.h.1.mlp.my_c_fc") == 3


def test_an_adapter_of_another_model_changes_nothing():
    model = GPT(GPTConfig(11, 8, 1, 2, 8), seed=1)
    before = model.state_dict()
    fitting = {"transformer.h.0.mlp.c_fc": (8, 32)}
    for other, said in [
        ({"model.layers.0.mlp.up_proj": (8, 32)}, "which this model has not"),
        ({"transformer.h.0.mlp.c_proj": (8, 32)}, "for a weight of shape"),
        ({"transformer.h.0.ln_1": (8, 8)}, "this model"),
    ]:
        with pytest.raises(SubgptError, match=said):
            merge_adapter(model, adapter_of({**fitting, **other}))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"r": 0}, "r = 0 is not a rank"),
        ({"r": "4"}, "r = '4' is not a rank"),
        ({"lora_alpha": 0}, "no effect"),
        ({"lora_alpha": float("nan")}, "lora_alpha = nan"),
        ({"lora_dropout": 1.0}, "lora_dropout = 1.0"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3' is not in this version"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True}, "lora_magnitude_vector"),
    ],
)
def test_settings_that_are_not_computed_are_refused(shared: Path, tmp_path: Path, change, said):
    copy = shutil.copytree(shared / "ref" / "adapters" / "lora", tmp_path / "copy")
    values = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**values, **change}))
    with pytest.raises((ConfigError, CheckpointError), match="copy") as caught:
        load_adapter(copy)
    assert said in str(caught.value)


def test_damaged_directories_are_refused(shared: Path, tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"adapter_config\.json"):
        load_adapter(tmp_path)
    copy = shutil.copytree(shared / "ref" / "adapters" / "lora", tmp_path / "copy")
    tensors = subgpt._core.read_safetensors(str(copy / "adapter_model.safetensors"))
    first = next(iter(tensors))

    def written(changed):
        subgpt._core.write_safetensors(str(copy / "adapter_model.safetensors"), list(changed.items()), {})

    for changed, said in [
        ({**tensors, first: np.full_like(tensors[first], np.nan)}, "not finite"),
        ({**tensors, "strange": tensors[first]}, "tensor strange"),
        ({name: value for name, value in tensors.items() if name != first}, "asks for lora_A and lora_B"),
        ({**tensors, first: tensors[first][:-1]}, "do not fit together"),
        ({}, "holds no tensor"),
    ]:
        written(changed)
        with pytest.raises(CheckpointError, match=said):
            load_adapter(copy)
