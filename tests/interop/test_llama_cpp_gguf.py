"""llama.cpp runs what is exported for it, with the same greedy tokens (where llama-cpp-python is installed)."""

from __future__ import annotations

import numpy as np
import pytest

import subgpt
from subgpt import GPTConfig, Tokenizer
from subgpt.gguf.model import save_gguf

from ..parity.gguf_blocks import BLOCKS, LLAMA

llama_cpp = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python")

TEXT = "the cat sat on the mat, and that was that; café, naïve, 1234 and more\n"
RUN_THERE = {**BLOCKS, "mistral": {**LLAMA, "sliding_window": 64}}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([TEXT] * 3, vocab_size=300)


@pytest.mark.parametrize("name", RUN_THERE)
@pytest.mark.parametrize("format", ["f32", "f16", "q8_0", "q4_0"])
def test_the_same_model_runs_there(tokenizer, tmp_path, name, format):
    config = GPTConfig(tokenizer.vocab_size, 128, 4, 4, 64, **RUN_THERE[name])
    model = subgpt.GPT(config, seed=2)
    rng = np.random.default_rng(3)
    model.load_state_dict(
        {k: x + rng.normal(0, 0.1, x.shape).astype("f4") for k, x in model.state_dict().items()}
    )
    save_gguf(model, tmp_path / "m.gguf", tokenizer=tokenizer, quantize=format)
    ours, _ = subgpt.load(tmp_path / "m.gguf")  # what the file has after rounding
    theirs = llama_cpp.Llama(
        str(tmp_path / "m.gguf"), n_ctx=64, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0
    )
    ids = rng.integers(0, tokenizer.vocab_size, 40).tolist()
    theirs.eval(ids)
    # llama.cpp rounds what it multiplies with half precision and blocks as well.
    close = {"f32": 1e-2, "f16": 2e-2}.get(format, 0.3)
    np.testing.assert_allclose(ours.forward(ids), theirs.scores[: len(ids)], rtol=0, atol=close)
    assert theirs.tokenize(TEXT.encode(), add_bos=False) == tokenizer.encode(TEXT).tolist()
    if format == "f32":
        written = ids[:8]
        theirs.reset()
        theirs.eval(written)
        for _ in range(40):
            written.append(int(np.argmax(theirs.scores[theirs.n_tokens - 1])))
            theirs.eval(written[-1:])
        greedy = ours.generate(ids[:8], max_new_tokens=40, temperature=0, eos_token_id=())
        assert greedy.tolist() == written


def test_the_real_model_tells_its_story_there(shared, tmp_path):
    model, tok = subgpt.load(shared / "data" / "model" / "stories260K.bin")
    save_gguf(model, tmp_path / "stories.gguf", tokenizer=tok)
    theirs = llama_cpp.Llama(
        str(tmp_path / "stories.gguf"), n_ctx=256, verbose=False, n_threads=1, logits_all=True
    )
    for text in ("Once upon a time, there was a café.", "  two  spaces ", "a", "\n\t1,234 中文 😀 x"):
        assert theirs.tokenize(text.encode(), add_bos=False) == tok.encode(text).tolist(), text
    ids = [1]
    theirs.eval(ids)
    for _ in range(100):
        ids.append(int(np.argmax(theirs.scores[theirs.n_tokens - 1])))
        theirs.eval(ids[-1:])
    assert model.generate([1], max_new_tokens=100, temperature=0, eos_token_id=()).tolist() == ids
