"""A run directory is a Hugging Face directory: `transformers` opens it as it is (where it is installed)."""

from __future__ import annotations

import json

import numpy as np
import pytest

import subgpt

from ..parity.families import FAMILIES, lively

torch = pytest.importorskip("torch", reason='torch is an extra: pip install "subgpt[parity]"')
transformers = pytest.importorskip(
    "transformers", reason='transformers is an extra: pip install "subgpt[parity]"'
)

TEXT = "A model that is saved here is opened there, and both say the same. " * 40
BLOCKS = {**FAMILIES, "gpt2-no-bias": FAMILIES["gpt2"].replace(bias=False)}


def opened(folder):
    """The model in `folder`, in transformers."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )


@pytest.mark.parametrize("name", BLOCKS)
def test_transformers_opens_a_model_as_it_is(tmp_path, name):
    config = BLOCKS[name]
    model = lively(config)
    model.save(tmp_path / "ours")
    theirs = opened(tmp_path / "ours")
    assert (
        theirs.config.model_type == json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"]
    )

    rng = np.random.default_rng(7)
    ids = rng.integers(0, config.vocab_size, (2, 150))  # long enough for all waves and windows
    batch = torch.tensor(ids)
    out = theirs(batch, labels=batch)
    np.testing.assert_allclose(model.forward(ids), out.logits.detach().numpy(), rtol=0, atol=1e-4)

    loss = model.backward(ids[:, :-1], ids[:, 1:])
    assert loss == pytest.approx(out.loss.item(), abs=1e-5)
    out.loss.backward()
    grads = model.grads()
    named = dict(theirs.named_parameters())
    # A model without biases is stored with zeros for transformers.
    assert grads.keys() == {key for key in named if config.has_qkv_bias or not key.endswith(".bias")}
    for key, grad in grads.items():
        expected = named[key].grad.numpy()
        assert np.linalg.norm(grad - expected) <= 1e-3 * np.linalg.norm(expected) + 1e-7, key

    prompt = torch.tensor(ids[:1, :9])
    options = {"attention_mask": torch.ones_like(prompt), "eos_token_id": None, "pad_token_id": 0}
    greedy = theirs.generate(prompt, max_new_tokens=64, do_sample=False, **options)
    ours = model.generate(ids[0, :9], max_new_tokens=64, temperature=0)
    np.testing.assert_array_equal(ours, greedy[0].numpy())

    theirs.save_pretrained(tmp_path / "theirs")
    back, _ = subgpt.load(tmp_path / "theirs")
    np.testing.assert_array_equal(back.forward(ids), model.forward(ids))


@pytest.mark.parametrize("name", BLOCKS)
def test_the_last_positions_are_those_of_float64(tmp_path, name):
    """All positions there are, 2048 of rotary ones: there transformers' own float32 is off by up to 7e-5."""
    from ..parity.float64 import float64, in_float64

    config = BLOCKS[name]
    model = lively(config)
    model.save(tmp_path)
    start = np.random.default_rng(8).integers(0, config.vocab_size, config.block_size - 64)
    ids = model.generate(start, max_new_tokens=64, temperature=0)
    theirs = opened(tmp_path)
    with float64(), torch.no_grad():
        logits = in_float64(theirs)(torch.tensor(ids.astype(np.int64))[None]).logits[0].numpy()
    assert logits.dtype == np.float64
    np.testing.assert_allclose(model.forward(ids), logits, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(logits[len(start) - 1 : -1].argmax(-1), ids[len(start) :])


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_transformers_opens_a_run_with_its_tokenizer(tmp_path, level):
    tok = subgpt.Tokenizer.train(iter([TEXT]), level=level, vocab_size=300 if level == "subword" else None)
    shape = {"vocab_size": tok.vocab_size, "block_size": 48, "n_layer": 2, "n_head": 3, "n_embd": 36}
    model = lively(subgpt.GPTConfig(**shape))
    model.save(tmp_path / "run", tokenizer=tok)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    their_tok = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")
    ids = tok.encode(TEXT[:30])
    assert their_tok(TEXT[:30])["input_ids"] == ids.tolist()
    with torch.no_grad():
        logits = theirs(torch.tensor([ids.tolist()])).logits[0].numpy()
    np.testing.assert_allclose(model.forward(ids), logits, rtol=0, atol=1e-4)
