"""Adapters over a base in few bits: what is learnt, kept, resumed, and opened over the float32 base."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

import subgpt
from subgpt import GPT, Callback, ConfigError, TrainConfig, finetune
from subgpt.performance.memory import native_memory

ROWS = [
    {"question": f"what is {n}?", "answer": f"a red {word}"} for n, word in enumerate(["cat", "plum"] * 6)
]
LORA = {"lora_r": 4, "learning_rate": 3e-2, "max_steps": 40, "batch_size": 4, "recall_tokens": 0}


@pytest.fixture(scope="module")
def base(tiny, tokenizer, poems, tmp_path_factory):
    """The directory of a model that can write a little."""
    model = GPT(tiny(block_size=48, n_layer=2, n_embd=32), seed=1)
    config = TrainConfig(max_steps=150, batch_size=8, learning_rate=1e-2, eval_steps=0)
    subgpt.pretrain(model, tokenizer, list(poems), config, callbacks=())
    place = tmp_path_factory.mktemp("models") / "base"
    model.save(place, tokenizer=tokenizer)
    return place


def run(model, tokenizer, settings, **options):
    config = TrainConfig(**{**LORA, **settings})
    return finetune(model, tokenizer, ROWS, config, **{"callbacks": (), **options})


@pytest.mark.parametrize(
    ("settings", "far"),
    [
        ({"quantize_base": "int8"}, 0.1),
        ({"quantize_base": "int8", "use_dora": True, "dtype": "bfloat16"}, 0.1),
        ({"quantize_base": "int4", "target_modules": "c_attn"}, 1.0),
    ],
)
def test_it_learns_and_the_adapter_opens_over_the_float32_base(base, settings, far, tmp_path):
    model, tokenizer = subgpt.load(base)
    done = run(model, tokenizer, settings, output_dir=tmp_path / "run", eval_source=ROWS)
    assert done.after["new"].loss < done.before["new"].loss / 2
    assert model.quantization == settings["quantize_base"]
    opened, found = subgpt.load(tmp_path / "run", dtype=model.dtype)
    assert opened.quantization is None
    ids = found.encode("Question: what is 3?")
    logits = model.forward(ids)
    assert 0 < np.abs(opened.forward(ids) - logits).max() < far
    assert subgpt.evaluate(opened, found, ROWS).loss < done.before["new"].loss / 2
    again, _ = subgpt.load(tmp_path / "run", dtype=model.dtype, quantize=settings["quantize_base"])
    np.testing.assert_array_equal(again.forward(ids), logits)


def test_interrupted_and_resumed_it_is_the_same(base, tmp_path):
    if sys.platform == "win32":
        pytest.skip("signals are delivered differently on Windows")

    class Stop(Callback):
        def on_step(self, event):
            if event.step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    settings = {"max_steps": 9, "quantize_base": "int4", "lora_dropout": 0.2, "use_dora": True}
    ends = {}
    for name, callbacks in {"whole": (), "cut": (Stop(),)}.items():
        model, tokenizer = subgpt.load(base)
        done = run(model, tokenizer, settings, output_dir=tmp_path / name, callbacks=callbacks)
        if callbacks:
            assert done.interrupted
            other = {**settings, "quantize_base": "int8"}
            with pytest.raises(ConfigError, match="quantize_base was 'int4'"):
                run(subgpt.load(base)[0], tokenizer, other, output_dir=tmp_path / name, resume=True)
            model, tokenizer = subgpt.load(base)  # float32: the run quantizes it again
            done = run(model, tokenizer, settings, output_dir=tmp_path / name, resume=True)
        opened, _ = subgpt.load(tmp_path / name, quantize="int4")
        ends[name] = (done.losses, done.val_losses, model.forward([1, 2, 3]), opened.forward([1, 2, 3]))
    for one, other in zip(*ends.values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_trained_over_what_is_said(base):
    class Notes(Callback):
        lines: tuple[str, ...] = ()

        def on_start(self, event):
            self.lines = event.notes

    notes = Notes()
    run(*subgpt.load(base), {"max_steps": 1, "quantize_base": "int8"}, callbacks=[notes])
    assert any("rank 4 adapters over the int8 base of" in line for line in notes.lines), notes.lines


def test_a_quantized_model_is_trained_with_adapters_only(base):
    model, tokenizer = subgpt.load(base, quantize="int8")
    with pytest.raises(ConfigError, match="give lora_r"):
        run(model, tokenizer, {"lora_r": None})
    with pytest.raises(ConfigError, match="are int8"):
        run(model, tokenizer, {"quantize_base": "int4"})
    run(model, tokenizer, {"max_steps": 1})  # it may stay as it is
    assert model.quantization == "int8"
    bare, _ = subgpt.load(base)
    with pytest.raises(ConfigError, match="no linear layer 'q_proj'"):
        run(bare, tokenizer, {"quantize_base": "int8", "target_modules": "q_proj"})
    assert bare.quantization is None, "a slip costs no weights"
    with pytest.raises(ConfigError, match="quantize_base is for adapters; set lora_r"):
        TrainConfig(quantize_base="int8")


def test_less_memory_is_estimated(tiny):
    shape = tiny(n_embd=64, n_layer=4)
    taken = [
        native_memory(shape, TrainConfig(lora_r=2, quantize_base=kind))["parameters"]
        for kind in (None, "int8", "int4")
    ]
    assert taken[0] > 2 * taken[1] > 2 * taken[2]
