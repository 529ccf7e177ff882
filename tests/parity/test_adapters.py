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


def test_over_the_model_it_computes_and_learns_as_peft_does(folder: Path, shared: Path):
    model, _ = load(shared / "ref" / "models" / "llama")
    model.load_adapter(folder)
    with np.load(folder / "reference.npz") as reference:
        ids, labels = reference["input_ids"], reference["labels"]
        assert np.abs(model.forward(ids) - reference["logits_f64"]).max() < 1e-4
        assert abs(model.backward(ids[:, :-1], labels[:, 1:]) - reference["loss_f64"]) < 1e-5
        grads = model.grads()
        expected = {
            key.removeprefix("grad/"): reference[key] for key in reference.files if key.startswith("grad/")
        }
        grads = {
            name.replace("magnitude_vector", "magnitude_vector.weight"): value
            for name, value in grads.items()
        }
        assert grads.keys() == expected.keys()
        for name, value in expected.items():
            assert np.linalg.norm(grads[name] - value) <= 1e-4 * np.linalg.norm(value), name
        model.set_adapter(None)
        assert np.abs(model.forward(ids) - reference["base_logits"]).max() < 1e-4


def test_an_adapter_loaded_and_saved_again_is_the_same_and_knows_its_base(
    folder: Path, shared: Path, tmp_path: Path
):
    base = shared / "ref" / "models" / "llama"
    model, _ = load(base)
    model.load_adapter(folder, "one")
    model.save_adapter(tmp_path / "again", "one")
    first, second = load_adapter(folder), load_adapter(tmp_path / "again")
    for module, layer in first.layers.items():
        for one, other in zip(layer, second.layers[module], strict=True):
            assert one is None or np.array_equal(one, other)
    other, _ = load(base)
    other.load_adapter(tmp_path / "again")
    state = other.state_dict()
    other.delete_adapter()
    other.load_state_dict(state | {"model.norm.weight": state["model.norm.weight"] + 1})
    with pytest.raises(CheckpointError, match="over other weights"):
        other.load_adapter(tmp_path / "again")
    other.load_adapter(tmp_path / "again", check_base=False)
    assert other.active_adapter == "default"


def test_a_directory_of_an_adapter_opens_with_its_base(folder: Path, shared: Path, tmp_path: Path):
    with np.load(folder / "reference.npz") as reference:
        model, _ = load(folder)  # whose base is named relative to it
        assert model.active_adapter == "default"
        assert np.abs(model.forward(reference["input_ids"]) - reference["logits_f64"]).max() < 1e-4
    copy = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(MissingFileError, match=r"its base is missing.*load_adapter"):
        load(copy)
    values = json.loads((copy / "adapter_config.json").read_text())
    for base, said in [(None, "names no base"), (".", "its own directory")]:
        (copy / "adapter_config.json").write_text(json.dumps({**values, "base_model_name_or_path": base}))
        with pytest.raises((MissingFileError, CheckpointError), match=said):
            load(copy)


@pytest.mark.parametrize(("kind", "near"), [("int8", 0.03), ("int4", 0.4)])
def test_over_a_base_in_few_bits_it_is_near(folder: Path, kind: str, near: float):
    # Measured: 1.6 % and 27 % of the spread of the logits. The weights are random, so that few bits cost much.
    with np.load(folder / "reference.npz") as reference:
        model, _ = load(folder, quantize=kind)
        error = model.forward(reference["input_ids"]) - reference["logits_f64"]
        assert 0 < np.sqrt((error**2).mean()) < near * reference["logits_f64"].std()
        without = reference["base_logits"] - reference["logits_f64"]
        assert np.sqrt((error**2).mean()) < np.sqrt((without**2).mean()) / 2


def test_several_adapters_lie_over_one_base(shared: Path):
    model, _ = load(shared / "ref" / "models" / "llama")
    logits = {}
    for name in ("lora", "dora"):
        model.load_adapter(shared / "ref" / "adapters" / name, name)
    for name in ("lora", "dora", "lora"):
        model.set_adapter(name)
        with np.load(shared / "ref" / "adapters" / name / "reference.npz") as reference:
            found = model.forward(reference["input_ids"])
            assert np.abs(found - reference["logits_f64"]).max() < 1e-4
            np.testing.assert_array_equal(found, logits.setdefault(name, found))
    assert model.adapters == ["lora", "dora"]
    model.delete_adapter("lora")
    assert model.active_adapter is None
    model.set_adapter("dora")
    ids = [3, 1, 2]
    before = model.forward(ids)
    model.merge_adapter("dora")
    assert model.adapters == []
    np.testing.assert_allclose(model.forward(ids), before, rtol=0, atol=1e-5)


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


def test_gpt2s_layers_lie_the_other_way_round(tmp_path: Path):
    model = GPT(GPTConfig(11, 8, 1, 2, 8), seed=1)
    name = "transformer.h.0.mlp.c_fc"
    adapter = adapter_of({name: (8, 32)}, use_rslora=True)
    before = model.state_dict()[f"{name}.weight"]
    merge_adapter(model, adapter)
    layer = adapter.layers[name]
    expected = before + 6 / np.sqrt(2) * (layer.b @ layer.a).T
    np.testing.assert_allclose(model.state_dict()[f"{name}.weight"], expected, rtol=0, atol=1e-6)
    for module, turned in ((name, True), ("model.layers.0.mlp.up_proj", False)):
        save_adapter(adapter_of({module: (8, 32)}), tmp_path)
        assert json.loads((tmp_path / "adapter_config.json").read_text())["fan_in_fan_out"] is turned


def test_ranks_and_alphas_of_single_layers():
    config = LoraConfig(r=2, lora_alpha=6, rank_pattern=(("c_fc", 3),), alpha_pattern=(("h.0.mlp.c_fc", 12),))
    assert config.scale("transformer.h.0.mlp.c_fc") == 4
    assert config.scale("transformer.h.1.mlp.c_fc") == 2
    assert config.scale("transformer.h.1.mlp.my_c_fc") == 3


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        (r".*\.layers\.[02]\.self_attn.*", ["layers.0.self_attn.q_proj", "layers.2.self_attn.q_proj"]),
        ("^model.layers.1.mlp.up_proj", ["layers.1.mlp.up_proj"]),
        (r"layers\.(1|2)\.(mlp\.up|self_attn\.q)_proj", ["layers.1", "layers.2"]),
        ("proj", []),
    ],
)
def test_ranks_and_alphas_by_regular_expressions_as_peft_reads_them(key, meant):
    config = LoraConfig(r=2, lora_alpha=6, rank_pattern=((key, 4), (".*", 2)), alpha_pattern=((key, 8),))
    for layer in range(3):
        for end in ("self_attn.q_proj", "mlp.up_proj"):
            module = f"model.layers.{layer}.{end}"
            found = any(name in module for name in meant)
            assert (config.rank(module), config.scale(module)) == ((4, 2.0) if found else (2, 3.0)), module


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("[", "no regular expression"),
        ("(?i)q_proj", "no regular expression"),
        ("(a+)+", "hours"),
        ("(.*.*){9}", "hours"),
        (".*" * 20 + "[xy]", "hours"),
        ("(.|.)" * 20, "hours"),
        ("x" * 300, "hours"),
    ],
)
def test_patterns_that_cannot_be_compared_are_refused(key, said):
    with pytest.raises(ConfigError, match=said):
        LoraConfig(alpha_pattern=((key, 2),))
    LoraConfig(alpha_pattern=((r"[*+?{(]\*\+\?\{\(\)*", 2),))  # which stand for themselves


def test_the_order_of_patterns_and_targets_by_a_regular_expression_are_kept(tmp_path: Path):
    modules = {"transformer.h.0.mlp.c_fc": (8, 32), "transformer.h.1.attn.c_proj": (8, 8)}
    pattern = (("h.1.attn.c_proj", 3), (".*", 2))
    made = adapter_of(modules, target_modules=(r".*(0\.mlp\.c_fc|attn\.c_proj)",), rank_pattern=pattern)
    save_adapter(made, tmp_path)
    values = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({**values, "target_modules": values["target_modules"][0]})  # as peft writes it
    )
    model = GPT(GPTConfig(11, 8, 2, 2, 8), seed=1)
    model.load_adapter(tmp_path)
    model.save_adapter(tmp_path / "again")
    values = json.loads((tmp_path / "again" / "adapter_config.json").read_text())
    assert values["target_modules"] == sorted(modules)
    assert list(values["rank_pattern"].items()) == list(pattern)


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
    made = adapter_of(fitting)
    with pytest.raises(CheckpointError, match="has rank 2, but"):
        merge_adapter(model, Adapter(LoraConfig(r=4), made.layers))
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
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights = 'pissa_niter_16' changed the base"),
        ({"init_lora_weights": "OLoRA"}, "changed the base"),
        ({"init_lora_weights": "loftq"}, "changed the base"),
    ],
)
def test_settings_that_are_not_computed_are_refused(shared: Path, tmp_path: Path, change, said):
    copy = shutil.copytree(shared / "ref" / "adapters" / "lora", tmp_path / "copy")
    values = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**values, **change}))
    with pytest.raises((ConfigError, CheckpointError), match="copy") as caught:
        load_adapter(copy)
    assert said in str(caught.value)


@pytest.mark.parametrize("began", [True, False, "gaussian", "eva", "orthogonal"])
def test_beginnings_that_leave_the_base_alone_are_read(shared: Path, tmp_path: Path, began):
    copy = shutil.copytree(shared / "ref" / "adapters" / "lora", tmp_path / "copy")
    values = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**values, "init_lora_weights": began}))
    assert load_adapter(copy).layers


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
