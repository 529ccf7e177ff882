"""Small models of every family that transformers saved, against PyTorch in f64.

Ten of them are kept beside the checkout (../shared/ref/models); SUBGPT_REFERENCES names a folder that
`tests/parity/make/families.py` wrote.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from subgpt import AdamW, GPTConfig, load

from .families import FAMILIES

MADE = os.environ.get("SUBGPT_REFERENCES")
KEPT = [
    "gpt2", "gpt2-untied", "llama", "llama-tied", "llama3-rope", "mistral", "qwen2", "qwen3", "gemma2", "gemma3",
]  # fmt: skip
NAMES = list(FAMILIES) if MADE else KEPT
OLD = "llama3-rope-old-config"


@pytest.fixture(scope="module")
def references(request) -> Path:
    return Path(MADE) if MADE else request.getfixturevalue("shared") / "ref" / "models"


@pytest.fixture(params=NAMES)
def case(request, references: Path):
    folder = references / request.param
    model, tokenizer = load(folder)
    assert tokenizer is None
    with np.load(folder / "reference.npz") as reference:
        yield model, reference


def test_logits_and_loss(case, within):
    model, reference = case
    logits = model.forward(reference["input_ids"])
    within("logits", np.abs(logits - reference["logits_f64"]).max(), 1e-4)
    loss = model.loss(reference["input_ids"][:, :-1], reference["labels"][:, 1:])
    within("loss", abs(loss - reference["loss_f64"]), 1e-5)


def test_a_long_sequence(case, within):
    model, reference = case
    ids = reference["long_input_ids"]
    # Learned positions are used to the last one.
    assert model.config.position == "rotary" or ids.shape[1] == model.config.block_size
    within("logits", np.abs(model.forward(ids) - reference["long_logits"]).max(), 1e-4)


def test_the_gradient_of_every_tensor(case, within):
    model, reference = case
    model.backward(reference["input_ids"][:, :-1], reference["labels"][:, 1:])
    grads = model.grads()
    names = {key.removeprefix("grad/") for key in reference.files if key.startswith("grad/")}
    assert grads.keys() == names
    width, relative = model.config.n_embd, {}
    for name in names:
        expected = reference[f"grad/{name}"]
        error = np.abs(grads[name] - expected)
        if name.endswith("attn.c_attn.bias"):  # the key third has a true gradient of zero
            assert error[width : 2 * width].max() < 1e-6, name
            error[width : 2 * width] = 0
        relative[name] = np.linalg.norm(error) / np.linalg.norm(expected)
    within("gradient", max(relative.values()), 1e-4)


@pytest.mark.parametrize("prompt", [0, 1])
def test_greedy_ids_with_the_cache(case, prompt):
    model, reference = case
    start, expected = reference[f"prompt/{prompt}"], reference[f"greedy/{prompt}"]
    ids = model.generate(start, max_new_tokens=len(expected) - len(start), temperature=0, eos_token_id=())
    assert ids.dtype == np.uint32
    assert ids.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3"])
def test_ten_steps_of_adamw_on_every_parameter(references: Path, name):
    folder = references / name
    model, _ = load(folder)
    optimizer = AdamW(model, 2e-3, betas=(0.9, 0.98), eps=1e-7, weight_decay=0.05, decay="all")
    with np.load(folder / "reference.npz") as reference:
        for step, batch in enumerate(reference["adamw/batches"]):
            loss = model.backward(batch[:, :-1], batch[:, 1:])
            assert abs(loss - reference["adamw/losses_f64"][step]) < 1e-5, f"step {step}"
            optimizer.step()
            model.zero_grad()
        weights = model.state_dict()
        for key in reference.files:
            if key.startswith("adamw/final_norm/"):
                norm = np.linalg.norm(weights[key.removeprefix("adamw/final_norm/")].astype(np.float64))
                assert norm == pytest.approx(float(reference[key]), rel=1e-4), key


@pytest.mark.parametrize("name", NAMES)
def test_saved_again_it_is_the_same_model(references: Path, tmp_path, name):
    model, _ = load(references / name)
    model.save(tmp_path)
    again, _ = load(tmp_path)
    assert again.config == model.config
    for tensor, value in model.state_dict().items():
        assert np.array_equal(again.state_dict()[tensor], value), tensor


def test_the_older_spelling_of_a_config_is_the_same_model(references: Path):
    values = [
        json.loads((references / name / "config.json").read_text())
        for name in (OLD, OLD.removesuffix("-old-config"))
    ]
    assert GPTConfig.from_hf(values[0]) == GPTConfig.from_hf(values[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_config_says_what_transformers_said(references: Path, tmp_path, name):
    folder = references / name
    model, _ = load(folder)
    model.save(tmp_path)
    theirs, ours = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path))
    # What says nothing about the computation, or has another default in their older versions.
    silent = {
        "dtype", "initializer_range", "transformers_version", "pad_token_id", "bos_token_id", "eos_token_id",
        "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
        "summary_type", "summary_use_proj", "max_window_layers", "_sliding_window_pattern", "use_cache",
        "use_bidirectional_attention", "no_rope_layer_interval",
    }  # fmt: skip
    for key in theirs.keys() - silent:
        assert ours[key] == theirs[key], key
