"""A run directory is a Hugging Face directory: `transformers` opens it as it is (where it is installed)."""

from __future__ import annotations

import json

import numpy as np
import pytest

import subgpt

torch = pytest.importorskip("torch", reason="torch is an extra: pip install 'subgpt[parity]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is an extra: pip install 'subgpt[parity]'"
)

TEXT = "A model that is saved here is opened there, and both say the same. " * 40
LLAMA = {"norm": "rms_norm", "position": "rotary", "mlp": "gated", "activation": "silu", "bias": False}
GEMMA = {
    **LLAMA, "activation": "gelu_new", "norm_unit_offset": True, "post_norm": True, "scale_embeddings": True,
    "norm_eps": 1e-6,
}  # fmt: skip
WINDOWS = ["sliding_attention", "full_attention"]
LLAMA3 = {
    "rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4}

BLOCKS = {
    "plain": {},
    "no-bias": {"bias": False},
    "untied": {"tie_embeddings": False},
    "gelu-new": {"activation": "gelu_new", "n_inner": 77, "norm_eps": 1e-6},
    "relu2": {"activation": "relu2"},
    "llama": {**LLAMA, "norm_eps": 1e-6},
    "llama-untied": {**LLAMA, "tie_embeddings": False, "n_kv_head": 1, "n_inner": 50},
    "llama-llama3": {**LLAMA, "head_dim": 20, "rope_scaling": LLAMA3, "rope_theta": 5e4},
    "llama-linear": {**LLAMA, "rope_scaling": LINEAR},
    "mistral": {**LLAMA, "head_dim": 8, "sliding_window": 7, "tie_embeddings": False},
    "qwen2": {**LLAMA, "qkv_bias": True, "n_kv_head": 1},
    "qwen2-windows": {**LLAMA, "qkv_bias": True, "sliding_window": 9, "layer_types": WINDOWS},
    "qwen3": {**LLAMA, "qk_norm": True},
    "qwen3-untied": {**LLAMA, "qk_norm": True, "head_dim": 14, "tie_embeddings": False, "rope_theta": 5e4},
    "smollm3": {**LLAMA, "n_kv_head": 1, "rope_layers": [True, False]},
    "smollm3-windows": {**LLAMA, "rope_layers": [False, True], "sliding_window": 5, "layer_types": WINDOWS},
    "gemma2": {
        **GEMMA, "head_dim": 8, "n_kv_head": 1, "sliding_window": 6, "layer_types": WINDOWS, "attn_softcap": 3,
        "logit_softcap": 5, "query_pre_attn_scalar": 17,
    },
    "gemma2-uncapped": {**GEMMA, "sliding_window": 6, "layer_types": WINDOWS, "tie_embeddings": False},
    "gemma3": {
        **GEMMA, "qk_norm": True, "head_dim": 10, "sliding_window": 6, "layer_types": WINDOWS, "rope_theta": 1e5,
        "rope_scaling": LINEAR, "rope_local_theta": 1e3,
    },
}  # fmt: skip


def lively(config, seed=5):
    """A model whose weights are large enough for every part to matter."""
    model = subgpt.GPT(config, seed=seed)
    rng = np.random.default_rng(seed)
    model.load_state_dict(
        {k: x + rng.normal(0, 0.1, x.shape).astype("f4") for k, x in model.state_dict().items()}
    )
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BLOCKS)
def test_transformers_opens_a_model_as_it_is(tmp_path, name):
    shape = {"vocab_size": 83, "block_size": 160, "n_layer": 2, "n_head": 3, "n_embd": 36}
    config = subgpt.GPTConfig(**shape, **BLOCKS[name])
    model = lively(config)
    model.save(tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager", dtype=torch.float32
    )
    assert (
        theirs.config.model_type == json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"]
    )

    rng = np.random.default_rng(7)
    ids = rng.integers(0, 83, (2, 150))  # long enough for all waves and windows
    batch = torch.tensor(ids)
    out = theirs(batch, labels=batch)
    np.testing.assert_allclose(model.forward(ids), out.logits.detach().numpy(), rtol=0, atol=1e-4)

    loss = model.backward(ids[:, :-1], ids[:, 1:])
    assert loss == pytest.approx(out.loss.item(), abs=1e-5)
    out.loss.backward()
    grads = model.grads()
    named = dict(theirs.named_parameters())
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


@pytest.mark.filterwarnings("ignore")
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
