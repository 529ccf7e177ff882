"""`subgpt merge`: adapters become part of a model."""

import json
from pathlib import Path

import numpy as np

from subgpt import GPT, GPTConfig, load
from subgpt.adapters.config import LoraConfig
from subgpt.adapters.files import Adapter, Layer, save_adapter

from .conftest import SHAPE, TEXT, invoke


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


def test_the_run_of_an_adapter_is_merged_with_the_base_it_names(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    level = ("--level", "char")
    assert invoke("tokenizer", "train", tmp_path / "text.txt", "-o", tmp_path / "tok", *level).code == 0
    rows = [
        {"question": f"where is the {color} cat?", "answer": "on the mat"} for color in ("red", "green") * 6
    ]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base, run, both = (tmp_path / name for name in ("base", "run", "both"))
    steps = ("--max-steps", "4", "--batch-size", "4")
    made = invoke(
        "pretrain",
        "--data",
        tmp_path / "text.txt",
        "--tokenizer",
        tmp_path / "tok",
        "-o",
        base,
        *SHAPE,
        "--block-size",
        "32",
        *steps,
    )
    assert made.code == 0, made.err
    tuned = invoke(
        "finetune", base, "--data", tmp_path / "qa.jsonl", "-o", run, *steps,
        "--lora-r", "2", "--target-modules", "c_attn,c_fc", "--use-dora", "--learning-rate", "0.1",
    )  # fmt: skip
    assert tuned.code == 0, tuned.err
    assert "rank 2 adapters over" in tuned.err
    again = invoke("finetune", base, "-o", run, "--resume", "--max-steps", "6")
    assert again.code == 0, again.err
    assert invoke("merge", run, "-o", both).code == 0
    (adapted, _), (merged, _) = load(run), load(both)
    np.testing.assert_allclose(merged.forward([1, 2, 3]), adapted.forward([1, 2, 3]), rtol=0, atol=1e-4)
    assert np.abs(load(base)[0].forward([1, 2, 3]) - adapted.forward([1, 2, 3])).max() > 1e-3
    for command in (
        ("generate", run, "the", "--max-new-tokens", "4"),
        ("evaluate", run, "--data", tmp_path / "qa.jsonl"),
    ):
        done = invoke(*command)
        assert done.code == 0, done.err
    assert "no adapter over it" in invoke("merge", both, "-o", tmp_path / "x").line()
    assert "merge_adapter" in invoke("export", run, "-o", tmp_path / "x.gguf", "--format", "gguf").line()
