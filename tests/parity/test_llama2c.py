"""A trained model of llama2.c: its greedy text token for token, its losses and gradients, and training on."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

import subgpt
from subgpt import Tokenizer, load
from subgpt.checkpoint import llama2c
from subgpt.errors import CheckpointError
from subgpt.generation.config import GenerationConfig
from subgpt.generation.prompt import prompt_ids


@pytest.fixture(scope="module")
def stories(shared):
    model, tokenizer = load(shared / "data" / "model" / "stories260K.bin")
    return model, tokenizer


@pytest.fixture(scope="module")
def reference(shared):
    with np.load(shared / "ref" / "stories260k" / "reference.npz") as arrays:
        yield dict(arrays)


def test_the_tokenizer_beside_it_is_found(stories, shared):
    model, tokenizer = stories
    assert tokenizer.vocab_size == model.config.vocab_size == 512
    assert tokenizer.fingerprint == Tokenizer.load(shared / "data" / "model" / "tok512.bin").fingerprint
    assert tokenizer.template == ([1], [])


def test_logits_and_losses(stories, reference):
    model, _ = stories
    assert np.abs(model.forward(reference["ids"]) - reference["logits_f64"]).max() < 1e-3
    for story in ("story/0", "story/1"):
        ids = reference[f"{story}/ids"].reshape(1, -1)
        assert model.loss(ids[:, :-1], ids[:, 1:]) == pytest.approx(
            float(reference[f"{story}/loss"]), abs=1e-3
        )


def test_gradients(stories, reference):
    model, _ = stories
    ids = reference["story/0/ids"].reshape(1, -1)
    model.zero_grad()
    model.backward(ids[:, :-1], ids[:, 1:])
    grads = model.grads()
    ours = {
        "tok_emb": "embed_tokens", "rms_att": "input_layernorm", "rms_ffn": "post_attention_layernorm",
        "rms_final": "model.norm", "wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "wo": "o_proj",
        "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj",
    }  # fmt: skip
    for theirs, name in ours.items():
        total = np.sqrt(sum(float((g.astype("f8") ** 2).sum()) for n, g in grads.items() if name in n))
        assert total == pytest.approx(float(reference[f"story/0/grad_norm/{theirs}"]), rel=1e-3), theirs
    gains = np.stack([grads[f"model.layers.{layer}.input_layernorm.weight"] for layer in range(5)])
    np.testing.assert_allclose(gains, reference["story/0/grad/rms_att"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("prompt", range(3))
def test_greedy_ids(stories, reference, prompt):
    model, _ = stories
    if f"prompt/{prompt}" not in reference:
        pytest.skip("there are fewer prompts")
    start, expected = reference[f"prompt/{prompt}"], reference[f"greedy/{prompt}"]
    # On past the end of the text, as the stored ids go on.
    ids = model.generate(start, max_new_tokens=len(expected) - len(start), temperature=0, eos_token_id=())
    assert ids.tolist() == expected.tolist()


def test_the_documented_text(stories, shared):
    model, tokenizer = stories
    expected = (shared / "data" / "model" / "stories260K_greedy.txt").read_text().strip()
    text = subgpt.generate(model, tokenizer, "", max_new_tokens=256, temperature=0)
    assert text.strip() == expected


def test_saved_it_is_a_llama_and_goes_on_training(stories, shared, tmp_path):
    model, tokenizer = stories
    model.save(tmp_path / "run", tokenizer=tokenizer)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model_type"] == "llama"
    again, their_tokenizer = load(tmp_path / "run")
    text = subgpt.generate(again, their_tokenizer, "Once", max_new_tokens=40, temperature=0)
    assert text == subgpt.generate(model, tokenizer, "Once", max_new_tokens=40, temperature=0)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The old ship sailed to the dark sea. The captain saw a light.\n" * 60)
    config = subgpt.TrainConfig(max_steps=12, learning_rate=2e-3, batch_size=4, block_size=64, eval_steps=12)
    run = subgpt.finetune(again, their_tokenizer, corpus, config, output_dir=tmp_path / "tuned")
    assert run.after["new"].loss < run.before["new"].loss - 0.5


# --- the other versions, and what is none ---


def written(model, version: int, group: int = 4) -> bytes:
    """The file that llama2.c's export writes for a model."""
    config, state = model.config, model.state_dict()
    shared = config.tie_embeddings
    sizes = [
        config.n_embd,
        config.inner_size,
        config.n_layer,
        config.n_head,
        config.kv_heads,
        config.vocab_size,
    ]
    names = {short: f"{name}.weight" for short, name in llama2c._NAMES.items()}

    def weight(short, layer):
        value = state[names[short] if layer < 0 else f"model.layers.{layer}.{names[short]}"]
        if short in ("q", "k"):
            heads = config.n_head if short == "q" else config.kv_heads
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        return value.astype("<f4")

    def stored(short, value):
        if version < 2 or "norm" in short:
            return value.tobytes()
        groups = value.reshape(-1, group)
        scale = np.abs(groups).max(1) / 127
        return np.round(groups / scale[:, None]).astype(np.int8).tobytes() + scale.astype("<f4").tobytes()

    if version == 0:
        head = struct.pack("<7i", *sizes[:-1], sizes[-1] if shared else -sizes[-1], config.block_size)
    else:
        head = b"24ka" + struct.pack("<8iB", version, *sizes, config.block_size, shared)
        head = (head + (struct.pack("<i", group) if version == 2 else b"")).ljust(256, b"\0")
    header = llama2c._header(head, "test")
    freqs = np.zeros(config.block_size * config.head_size, "<f4").tobytes()
    return head + b"".join(
        freqs if short == "freqs" else stored(short, weight(short, layer))
        for short, layer in llama2c._order(header)
    )


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def small(request):
    config = subgpt.GPTConfig(
        24, 16, 2, 4, 16, n_kv_head=2, n_inner=20, bias=False, norm="rms_norm", position="rotary", mlp="gated",
        activation="silu", tie_embeddings=request.param,
    )  # fmt: skip
    model = subgpt.GPT(config, seed=1)
    rng = np.random.default_rng(2)
    model.load_state_dict({k: rng.normal(0, 0.3, x.shape) for k, x in model.state_dict().items()})
    return model


@pytest.mark.parametrize("version", [0, 1, 2])
def test_every_version_is_read(small, tmp_path, version):
    path = tmp_path / "model.bin"
    path.write_bytes(written(small, version))
    back, tokenizer = load(path)
    assert tokenizer is None
    for name, value in small.state_dict().items():
        close = 0 if version < 2 else np.abs(value).max() / 100
        np.testing.assert_allclose(back.state_dict()[name], value, rtol=0, atol=close, err_msg=name)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_file_of_another_size_is_refused(small, tmp_path, version):
    whole, path = written(small, version), tmp_path / "model.bin"
    for data in (whole[:-1], whole + b"\0", *(whole[:cut] for cut in (1, 27, 28, 40, 200, 256, 300))):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"model\.bin"):
            load(path)


def test_groups_that_do_not_divide_a_tensor_are_refused(small, tmp_path):
    head = written(small, 2)[:256]
    head = head[:37] + struct.pack("<i", 7) + head[41:]
    header = llama2c._header(head, "test")
    size = sum(map(llama2c._bytes_of(header), llama2c._sizes(header)))
    (tmp_path / "model.bin").write_bytes(head + bytes(size))
    with pytest.raises(
        CheckpointError, match=r"model\.bin: groups of 7 numbers do not divide the 384 of tok"
    ):
        load(tmp_path / "model.bin")


def test_numbers_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "model.bin"
    for head in (
        b"",
        struct.pack("<7i", 0, 1, 1, 1, 1, 1, 1),
        struct.pack("<7i", *[2**31 - 1] * 7),
        struct.pack("<7i", 8, 8, -1, 2, 2, 8, 8),
        struct.pack("<7i", 8, 8, 1, 2, 0, 8, 8),
        struct.pack("<7i", 8, 8, 1, 2, 2, -(2**31), 8),
        b"24ka" + struct.pack("<8iB", 3, *[8] * 7, 1).ljust(252, b"\0"),
        b"24ka" + struct.pack("<8iBi", 2, *[8] * 7, 1, 0).ljust(252, b"\0"),
    ):
        path.write_bytes(head)
        with pytest.raises(CheckpointError, match=r"model\.bin"):
            load(path)
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    with pytest.raises(CheckpointError, match="run code when opened"):
        load(path)


@pytest.mark.parametrize("prompt", ["Once upon a time there", "Once upon a", ""])
def test_what_is_written_goes_on_where_the_prompt_ends(stories, prompt: str):
    model, tok = stories
    whole = subgpt.generate(model, tok, prompt, temperature=0, max_new_tokens=12)
    pieces = list(subgpt.stream(model, tok, prompt, temperature=0, max_new_tokens=12))
    session = model.native.session()
    session.append(prompt_ids(tok, prompt))
    session.run(12, GenerationConfig(temperature=0).to_native(), [])
    assert whole == prompt + "".join(pieces) == tok.decode(session.ids[1:])  # without the BOS
