"""`peft` opens adapters that were trained or written here, over bases that were saved here; and the other way round."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import subgpt
from subgpt import load
from subgpt.adapters.config import LoraConfig
from subgpt.adapters.files import load_adapter, save_adapter

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "subgpt[parity]"')
transformers = pytest.importorskip(
    "transformers", reason='transformers is not installed: pip install "subgpt[parity]"'
)
peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")

# peft asks transformers by a name that goes out of use there.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

FAMILIES = ["llama", "gpt2", "qwen3"]
KINDS = [{}, {"use_rslora": True}, {"use_dora": True}]
TARGETS = {
    "gpt2": ["c_attn", "mlp.c_proj"],
    "llama": ["q_proj", "down_proj"],
    "qwen3": ["v_proj", "gate_proj"],
}
IDS = np.arange(1, 25).reshape(2, 12)


def named(kind):
    return next(iter(kind), "lora")


@pytest.fixture
def base(request, shared: Path, tmp_path: Path) -> Path:
    """A base that was saved here."""
    model, _ = load(shared / "ref" / "models" / request.param)
    model.save(tmp_path / request.param)
    return tmp_path / request.param


def opened(folder: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits_of(model) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits.numpy()


def trained(base: Path, **settings):
    """A base with an adapter that was trained here for a few steps."""
    model, _ = load(base)
    model.add_adapter(LoraConfig(r=3, lora_alpha=5, **settings), seed=4)
    optimizer = subgpt.AdamW(model, learning_rate=1e-2)
    for _ in range(4):
        model.backward(IDS[:, :-1], IDS[:, 1:])
        optimizer.step()
        model.zero_grad()
    return model


@pytest.mark.parametrize("base", FAMILIES, indirect=True)
@pytest.mark.parametrize("kind", [*KINDS, {"target_modules": True, "use_dora": True}], ids=named)
def test_peft_opens_what_was_trained(base: Path, tmp_path: Path, kind):
    settings = {**kind, "target_modules": tuple(TARGETS[base.name])} if "target_modules" in kind else kind
    model = trained(base, **settings)
    model.save_adapter(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(opened(base), tmp_path / "adapter").eval()
    np.testing.assert_allclose(logits_of(theirs), model.forward(IDS), rtol=0, atol=1e-4)
    bare = logits_of(opened(base))
    assert np.abs(logits_of(theirs) - bare).max() > 0.01

    # Merged there and here, the weights are the same, and so is the model that is saved and opened on the other side.
    merged = theirs.merge_and_unload()
    model.merge_adapter()
    weights = {name: value.numpy() for name, value in merged.state_dict().items()}
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=1e-5, err_msg=name)
    model.save(tmp_path / "ours")
    np.testing.assert_allclose(logits_of(opened(tmp_path / "ours")), logits_of(merged), rtol=0, atol=1e-4)
    merged.save_pretrained(tmp_path / "theirs")
    np.testing.assert_allclose(
        load(tmp_path / "theirs")[0].forward(IDS), logits_of(merged), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("base", FAMILIES, indirect=True)
@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_what_peft_trained_opens_here(base: Path, tmp_path: Path, kind):
    torch.manual_seed(2)
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=TARGETS[base.name], task_type="CAUSAL_LM", lora_dropout=0.0,
        rank_pattern={TARGETS[base.name][0]: 2}, fan_in_fan_out=base.name == "gpt2", **kind,
    )  # fmt: skip
    theirs = peft.get_peft_model(opened(base), config)
    optimizer = torch.optim.AdamW(theirs.parameters(), 1e-2)
    for _ in range(4):
        theirs(torch.tensor(IDS), labels=torch.tensor(IDS)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    theirs.eval().save_pretrained(tmp_path / "adapter")
    expected = logits_of(theirs)

    model, _ = load(base)
    bare = model.forward(IDS)
    model.load_adapter(tmp_path / "adapter")
    np.testing.assert_allclose(model.forward(IDS), expected, rtol=0, atol=1e-4)
    assert np.abs(expected - bare).max() > 0.01
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == str(base)
    np.testing.assert_allclose(load(tmp_path / "adapter")[0].forward(IDS), expected, rtol=0, atol=1e-4)
    # Written again here, it opens there.
    model.save_adapter(tmp_path / "again")
    again = peft.PeftModel.from_pretrained(opened(base), tmp_path / "again").eval()
    np.testing.assert_allclose(logits_of(again), expected, rtol=0, atol=1e-5)
    model.merge_adapter()
    np.testing.assert_allclose(model.forward(IDS), expected, rtol=0, atol=1e-4)
    for name, value in theirs.merge_and_unload().state_dict().items():
        if name in model.state_dict():
            np.testing.assert_allclose(
                model.state_dict()[name], value.numpy(), rtol=0, atol=1e-5, err_msg=name
            )


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_peft_opens_its_own_adapters_written_again(shared: Path, tmp_path: Path, kind):
    folder = shared / "ref" / "adapters" / kind
    save_adapter(load_adapter(folder), tmp_path / "again")
    theirs = peft.PeftModel.from_pretrained(opened(shared / "ref" / "models" / "llama"), tmp_path / "again")
    with np.load(folder / "reference.npz") as reference, torch.no_grad():
        logits = theirs(torch.tensor(reference["input_ids"])).logits.numpy()
        np.testing.assert_allclose(logits, reference["logits"], rtol=0, atol=1e-5)
