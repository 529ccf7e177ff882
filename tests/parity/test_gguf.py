"""Models in GGUF files: read by the `gguf` package, read back here, and what llama.cpp could not run is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import subgpt
from subgpt import GPTConfig, Tokenizer, load
from subgpt.adapters.attach import fingerprint
from subgpt.data import ChatTemplate
from subgpt.errors import CheckpointError, ConfigError, SubgptError, TokenizerError
from subgpt.gguf.architectures import CONFIG_KEY
from subgpt.gguf.model import FORMATS, save_gguf
from subgpt.model.quantized import QUANTIZATIONS

from .gguf_blocks import BLOCKS, FULL, LLAMA, LLAMA3, SLIDES

gguf = pytest.importorskip("gguf", reason="the gguf package is not installed: pip install gguf")

SHAPE = {"vocab_size": 96, "block_size": 80, "n_layer": 4, "n_head": 4, "n_embd": 64}


def lively(config):
    model = subgpt.GPT(config, seed=2)
    rng = np.random.default_rng(3)
    model.load_state_dict(
        {k: x + rng.normal(0, 0.1, x.shape).astype("f4") for k, x in model.state_dict().items()}
    )
    return model


@pytest.fixture(params=BLOCKS)
def model(request):
    return lively(GPTConfig(**SHAPE, **BLOCKS[request.param]))


def test_what_is_written_is_the_same_model(model, tmp_path):
    done = save_gguf(model, tmp_path / "m.gguf")
    assert (done.divergence, done.agreement) == (pytest.approx(0, abs=1e-9), 1.0)
    again, tokenizer = load(tmp_path / "m.gguf")
    assert tokenizer is None
    assert again.config == model.config
    for name, value in model.state_dict().items():
        close = 1e-6 if model.config.norm_unit_offset else 0
        np.testing.assert_allclose(again.state_dict()[name], value, rtol=0, atol=close, err_msg=name)
    assert list(tmp_path.iterdir()) == [tmp_path / "m.gguf"]


def test_a_model_that_computes_in_bfloat16_is_compared_as_it_computes(tmp_path):
    model = lively(GPTConfig(**SHAPE, **BLOCKS["llama"]))
    model.dtype = "bfloat16"
    done = save_gguf(model, tmp_path / "m.gguf")
    assert (done.divergence, done.agreement) == (pytest.approx(0, abs=1e-9), 1.0)


@pytest.mark.parametrize("kind", QUANTIZATIONS)
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_read_into_few_bits_as_if_it_had_been_float32_numbers_first(model, format, kind, tmp_path):
    save_gguf(model, tmp_path / "m.gguf", quantize=format)
    want, _ = load(tmp_path / "m.gguf")
    want.quantize(kind)
    got, _ = load(tmp_path / "m.gguf", quantize=kind)
    assert got.quantization == kind
    assert fingerprint(got) == fingerprint(want)
    for name, value in want.state_dict().items():
        np.testing.assert_array_equal(got.state_dict()[name], value, err_msg=name)


def test_files_of_others_are_read(model, tmp_path):
    """Without our own entry: what llama.cpp's converter would have written."""
    save_gguf(model, tmp_path / "ours.gguf")
    entries, tensors = subgpt._core.read_gguf(str(tmp_path / "ours.gguf"))
    reader = gguf.GGUFReader(tmp_path / "ours.gguf", "r")
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", entries["general.architecture"])
    for key, value in entries.items():
        kind = reader.fields[key].types[0]
        if key not in (CONFIG_KEY, "general.architecture"):
            writer.add_key_value(key, value, kind)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    again, _ = load(tmp_path / "theirs.gguf")
    ids = np.random.default_rng(1).integers(0, 96, (2, 70))
    np.testing.assert_allclose(again.forward(ids), model.forward(ids), rtol=0, atol=1e-4)
    assert len(tensors) == len(reader.tensors)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_what_the_gguf_package_reads(tmp_path, format):
    model = lively(GPTConfig(**SHAPE, **BLOCKS["llama"]))
    done = save_gguf(model, tmp_path / "m.gguf", quantize=format, name="small")
    assert done.agreement > {"q4_0": 0.3, "q8_0": 0.8}.get(format, 0.95)
    again, _ = load(tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf", "r")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert (fields["general.architecture"], fields["general.name"]) == ("llama", "small")
    assert fields["llama.attention.head_count_kv"] == 2
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["blk.0.ffn_up.weight"].tensor_type.name.lower() == format
    assert tensors["output_norm.weight"].tensor_type.name == "F32"
    theirs = gguf.dequantize(tensors["blk.0.ffn_up.weight"].data, tensors["blk.0.ffn_up.weight"].tensor_type)
    np.testing.assert_array_equal(
        again.state_dict()["model.layers.0.mlp.up_proj.weight"], theirs.reshape(again.config.inner_size, 64)
    )
    if format in ("q8_0", "q4_0"):
        weight = model.state_dict()["model.layers.0.mlp.up_proj.weight"]
        kind = gguf.GGMLQuantizationType[format.upper()]
        np.testing.assert_array_equal(gguf.quantize(weight, kind), tensors["blk.0.ffn_up.weight"].data)


def test_llamas_heads_are_rotated_in_neighbouring_pairs(tmp_path):
    model = lively(GPTConfig(**SHAPE, **BLOCKS["llama"]))
    save_gguf(model, tmp_path / "m.gguf")
    q = subgpt._core.gguf_tensor(str(tmp_path / "m.gguf"), "blk.0.attn_q.weight")
    ours = model.state_dict()["model.layers.0.self_attn.q_proj.weight"]
    # The order of llama.cpp's converter: (heads, 2, D / 2, in) to (heads, D / 2, 2, in).
    np.testing.assert_array_equal(q, ours.reshape(4, 2, 8, 64).swapaxes(1, 2).reshape(64, 64))


def test_rows_that_are_no_whole_blocks_are_float16(tmp_path):
    model = lively(GPTConfig(**{**SHAPE, "n_embd": 48}, **BLOCKS["llama"], n_inner=64))
    save_gguf(model, tmp_path / "m.gguf", quantize="q8_0")
    kinds = {name: kind for name, _, kind in subgpt._core.read_gguf(str(tmp_path / "m.gguf"))[1]}
    assert (kinds["blk.0.ffn_up.weight"], kinds["blk.0.ffn_down.weight"]) == ("F16", "Q8_0")


def test_a_tokenizer_goes_with_it(tmp_path):
    tok = Tokenizer.train(["the cat sat on the mat, and that was that"] * 3, vocab_size=270)
    model = lively(GPTConfig(**{**SHAPE, "vocab_size": 280}, activation="gelu_new"))
    save_gguf(model, tmp_path / "m.gguf", tokenizer=tok)
    again, found = load(tmp_path / "m.gguf")
    assert found == tok
    text = "the mat sat"
    assert subgpt.generate(again, found, text, max_new_tokens=8, temperature=0) == subgpt.generate(
        model, tok, text, max_new_tokens=8, temperature=0
    )
    assert again.generation_config == {"eos_token_id": [tok.eot_id]}
    tokens = gguf.GGUFReader(tmp_path / "m.gguf", "r").fields["tokenizer.ggml.tokens"].contents()
    assert (len(tokens), tokens[-1]) == (280, "[UNUSED279]")
    chars = Tokenizer.train(["abc"], level="char")
    with pytest.raises(TokenizerError, match="no name for a tokenizer of level 'char'"):
        save_gguf(model, tmp_path / "no.gguf", tokenizer=chars)
    with pytest.raises(ConfigError, match="do not belong together"):
        save_gguf(lively(GPTConfig(**SHAPE, activation="gelu_new")), tmp_path / "no.gguf", tokenizer=tok)
    assert not (tmp_path / "no.gguf").exists()


def test_a_chat_template_goes_with_its_tokenizer(tmp_path):
    tok = Tokenizer.train(["the cat sat on the mat"] * 3, vocab_size=270)
    model = lively(GPTConfig(**{**SHAPE, "vocab_size": 270}, activation="gelu_new"))
    model.chat_template = ChatTemplate("{{ messages[0].content }}{{ eos_token }}")
    save_gguf(model, tmp_path / "m.gguf", tokenizer=tok)
    field = gguf.GGUFReader(tmp_path / "m.gguf", "r").fields["tokenizer.chat_template"]
    assert field.contents() == model.chat_template.source
    again, _ = load(tmp_path / "m.gguf")
    assert again.chat_template.render([{"role": "user", "content": "Hi"}]) == "Hi<|endoftext|>"
    save_gguf(model, tmp_path / "bare.gguf")
    assert load(tmp_path / "bare.gguf")[0].chat_template is None


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"activation": "relu2"}, "activation is relu2"),
        ({**LLAMA, "activation": "gelu_new"}, "no architecture with this block"),
        ({**LLAMA, "qkv_bias": True, "sliding_window": 9}, "layer_types has sliding attention"),
        ({**LLAMA, "qk_norm": True, "rope_scaling": LLAMA3}, "rope_scaling is of type llama3"),
        ({**LLAMA, "rope_layers": [False, True, True, True]}, "rope_layers must be on but for every 4th"),
        (
            {**BLOCKS["gemma2"], "layer_types": [FULL, SLIDES] * 2},
            "layer_types must be sliding but for every 2th",
        ),
        ({**BLOCKS["gemma2"], "attn_softcap": None}, "attn_softcap and logit_softcap"),
        ({**BLOCKS["gemma2"], "query_pre_attn_scalar": 20}, "query_pre_attn_scalar = 20 is not head_dim"),
        ({**BLOCKS["gemma3"], "tie_embeddings": False}, "tie_embeddings is off"),
        ({**BLOCKS["gemma3"], "rope_local_theta": 1e5}, "rope_local_theta = 100000"),
        ({**BLOCKS["gemma3"], "logit_softcap": 30}, "logit_softcap = 30 is given"),
        ({**BLOCKS["gemma3"], "attn_softcap": 50}, "no architecture with this block"),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(tmp_path, block, said):
    model = subgpt.GPT(GPTConfig(**SHAPE, **block), seed=0)
    with pytest.raises(ConfigError) as caught:
        save_gguf(model, tmp_path / "m.gguf")
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_not_exported(tmp_path):
    model = lively(GPTConfig(**SHAPE, activation="gelu_new"))
    state = model.state_dict()
    state["transformer.wte.weight"][3, 4] = np.nan
    model.load_state_dict(state)
    for format in ("f32", "q8_0"):
        with pytest.raises(SubgptError):
            save_gguf(model, tmp_path / "m.gguf", quantize=format)
    assert not list(tmp_path.iterdir())


def rewritten(path, changes, drop=()):
    """The file with other metadata."""
    entries, _ = subgpt._core.read_gguf(str(path))
    reader = gguf.GGUFReader(path, "r")
    target = path.with_name("changed.gguf")
    writer = gguf.GGUFWriter(target, changes.get("general.architecture", entries["general.architecture"]))
    for key, value in {**entries, **changes}.items():
        if key not in ("general.architecture", CONFIG_KEY, *drop):
            writer.add_key_value(key, value, reader.fields[key].types[0])
    for tensor in reader.tensors:
        if tensor.name not in drop:
            writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize(
    ("changes", "drop"),
    [
        ({"general.architecture": "mamba"}, ()),
        ({}, ("llama.block_count",)),
        ({}, ("token_embd.weight",)),
        ({}, ("blk.1.attn_k.weight",)),
        ({"llama.block_count": 3}, ()),
        ({"llama.block_count": 2**31}, ()),
        ({"llama.block_count": 1000}, ()),
        ({"llama.embedding_length": 0}, ()),
        ({"llama.embedding_length": 128}, ()),
        ({"llama.attention.head_count": 3}, ()),
        ({"llama.attention.head_count_kv": 4}, ()),
        ({"llama.rope.freq_base": float("nan")}, ()),
        ({"llama.feed_forward_length": 2**20}, ()),
    ],
)
def test_metadata_that_does_not_belong_to_the_tensors_is_refused(tmp_path, changes, drop):
    save_gguf(lively(GPTConfig(**SHAPE, **BLOCKS["llama"])), tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match=r"changed\.gguf"):
        load(rewritten(tmp_path / "m.gguf", changes, drop))


def test_other_peoples_llama3_factors_are_recognised_or_refused(tmp_path):
    model = lively(GPTConfig(**SHAPE, **BLOCKS["llama-llama3"]))
    save_gguf(model, tmp_path / "m.gguf")
    again, _ = load(rewritten(tmp_path / "m.gguf", {}))
    assert again.config.rope_scaling.factor == pytest.approx(32)
    other = {**LLAMA3, "original_max_position_embeddings": 64}
    save_gguf(lively(GPTConfig(**SHAPE, **{**LLAMA, "rope_scaling": other})), tmp_path / "m.gguf")
    with pytest.raises(CheckpointError, match="not those of Llama 3"):
        load(rewritten(tmp_path / "m.gguf", {}))


def test_the_real_model_tells_the_same_story(shared, tmp_path):
    model, tokenizer = load(shared / "data" / "model" / "stories260K.bin")
    done = save_gguf(model, tmp_path / "stories.gguf", quantize="q8_0")
    again, _ = load(tmp_path / "stories.gguf")
    assert done.divergence < 1e-2
    told = [subgpt.generate(one, tokenizer, "", max_new_tokens=60, temperature=0) for one in (model, again)]
    assert told[0][:60] == told[1][:60]
    assert json.loads(subgpt._core.read_gguf(str(tmp_path / "stories.gguf"))[0][CONFIG_KEY])["n_layer"] == 5


@pytest.mark.parametrize("name", ["tok512.bin", "tok512.model"])
def test_sentencepiece_tokenizers_go_with_their_models(shared, tmp_path, name):
    path = shared / "data" / "model" / name
    tok = Tokenizer.load(path)
    model = lively(GPTConfig(**{**SHAPE, "vocab_size": 512}, **BLOCKS["llama"]))
    if name.endswith(".model"):  # which takes spaces away
        with pytest.raises(TokenizerError, match="how this tokenizer prepares text"):
            save_gguf(model, tmp_path / "m.gguf", tokenizer=tok)
        return
    save_gguf(model, tmp_path / "m.gguf", tokenizer=tok)
    whole = Tokenizer.load(tmp_path / "m.gguf")
    # Without the tokenizer.json, as others write it.
    theirs = Tokenizer.load(rewritten(tmp_path / "m.gguf", {}, ("tokenizer.huggingface.json",)))
    for text in ("Once upon a time, there was a café.", "  two  spaces ", "", "a", "\n\t1,234 中文 😀"):
        assert whole.encode(text).tolist() == theirs.encode(text).tolist() == tok.encode(text).tolist()
    fields = {
        key: field.contents() for key, field in gguf.GGUFReader(tmp_path / "m.gguf", "r").fields.items()
    }
    assert fields["tokenizer.ggml.model"] == "llama"
    assert fields["tokenizer.ggml.token_type"][:4] == [2, 3, 3, 6]
    assert (fields["tokenizer.ggml.bos_token_id"], fields["tokenizer.ggml.add_bos_token"]) == (1, True)
    other = {"tokenizer.ggml.token_type": [1] * 512}
    with pytest.raises(TokenizerError, match="not laid out as Llama's"):
        Tokenizer.load(rewritten(tmp_path / "m.gguf", other, ("tokenizer.huggingface.json",)))
