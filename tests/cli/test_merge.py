"""`subgpt merge`: adapters become part of a model."""

from pathlib import Path

import numpy as np

from subgpt import GPT, GPTConfig, load
from subgpt.adapters.config import LoraConfig
from subgpt.adapters.files import Adapter, Layer, save_adapter

from .conftest import invoke


def test_adapters_become_part_of_the_model(tmp_path: Path) -> None:
    model = GPT(GPTConfig(11, 8, 1, 2, 8), seed=1)
    model.save(tmp_path / "base")
    module = "transformer.h.0.attn.c_proj"
    one = np.ones((1, 8), dtype=np.float32)
    adapter = Adapter(LoraConfig(r=1, lora_alpha=1, base="base"), {module: Layer(one, one.T.copy())})
    save_adapter(adapter, tmp_path / "a")
    done = invoke("merge", tmp_path / "base", tmp_path / "a", tmp_path / "a", "-o", tmp_path / "both")
    assert done.code == 0, done.err
    merged, _ = load(tmp_path / "both")
    change = merged.state_dict()[f"{module}.weight"] - model.state_dict()[f"{module}.weight"]
    np.testing.assert_allclose(change, 2.0, rtol=0, atol=1e-6)
    refused = invoke("merge", tmp_path / "base", tmp_path / "none", "-o", tmp_path / "x")
    assert refused.code == 1
    assert "adapter_config.json" in refused.line()
