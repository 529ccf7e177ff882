"""A run directory is a Hugging Face directory: `transformers` opens it as it is (where it is installed)."""

from __future__ import annotations

import numpy as np
import pytest

import subgpt

torch = pytest.importorskip("torch", reason="torch is an extra: pip install 'subgpt[parity]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is an extra: pip install 'subgpt[parity]'"
)

MODERN = {"norm": "rms_norm", "position": "rotary", "mlp": "gated", "activation": "silu", "bias": False}
TEXT = "A model that is saved here is opened there, and both say the same. " * 40


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("level", ["char", "word", "subword"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": False},
        {"tie_embeddings": False},
        {"activation": "gelu_new", "n_inner": 77, "norm_eps": 1e-6},
        {"activation": "relu2"},
        {**MODERN, "qk_norm": True},
        {
            **MODERN,
            "qk_norm": True,
            "tie_embeddings": False,
            "n_kv_head": 1,
            "rope_theta": 5e4,
            "n_inner": 50,
        },
        {**MODERN, "norm_eps": 1e-6},
        {**MODERN, "tie_embeddings": False, "n_kv_head": 1},
    ],
    ids=[
        "plain",
        "no-bias",
        "untied",
        "gelu-new",
        "relu2",
        "qwen3",
        "qwen3-untied",
        "llama",
        "llama-untied",
    ],
)
def test_transformers_opens_a_run_as_it_is(tmp_path, level, changes):
    tok = subgpt.Tokenizer.train(iter([TEXT]), level=level, vocab_size=300 if level == "subword" else None)
    shape = {"vocab_size": tok.vocab_size, "block_size": 48, "n_layer": 2, "n_head": 3, "n_embd": 36}
    model = subgpt.GPT(subgpt.GPTConfig(**shape, **changes), seed=5)
    rng = np.random.default_rng(6)
    model.load_state_dict(
        {k: x + rng.normal(0, 0.1, x.shape).astype("f4") for k, x in model.state_dict().items()}
    )
    model.save(tmp_path / "run", tokenizer=tok)

    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    their_tok = transformers.AutoTokenizer.from_pretrained(tmp_path / "run")
    ids = tok.encode(TEXT[:30])
    assert their_tok(TEXT[:30])["input_ids"] == ids.tolist()
    batch = torch.tensor([ids.tolist()])
    with torch.no_grad():
        logits = theirs(batch).logits[0].numpy()
    np.testing.assert_allclose(model.forward(ids), logits, rtol=0, atol=1e-4)
    options = {"attention_mask": torch.ones_like(batch), "eos_token_id": None, "pad_token_id": 0}
    greedy = theirs.generate(batch, max_new_tokens=15, do_sample=False, **options)
    np.testing.assert_array_equal(model.generate(ids, max_new_tokens=15, temperature=0), greedy[0].numpy())

    theirs.save_pretrained(tmp_path / "theirs")
    back, _ = subgpt.load(tmp_path / "theirs")
    np.testing.assert_array_equal(back.forward(ids), model.forward(ids))
