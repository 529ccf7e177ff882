"""Opening model directories: what is accepted, and every way in which one can be something else."""

from __future__ import annotations

import json
import pickle
import shutil
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import subgpt
from subgpt import GPT, CheckpointError, ConfigError, MissingFileError, load
from subgpt.checkpoint.load import load_with_tokenizer
from subgpt.data.chat.template import CHATML


@pytest.fixture
def saved(model, tokenizer, tmp_path):
    """A saved model with its tokenizer."""
    model.save(tmp_path / "m", tokenizer=tokenizer)
    return tmp_path / "m"


def same(one, two):
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_saved_model_comes_back_with_its_tokenizer(model, tokenizer, saved):
    loaded, words = load(str(saved))
    assert same(loaded, model)
    assert loaded.config == model.config
    assert words.encode("red wheel").tolist() == tokenizer.encode("red wheel").tolist()
    model.save(saved / "bare")
    assert load(saved / "bare")[1] is None
    assert load_with_tokenizer(saved)[1].vocab_size == words.vocab_size
    with pytest.raises(MissingFileError, match=r"bare.tokenizer\.json: no such file; copy the model's"):
        load_with_tokenizer(saved / "bare")


def llama2c_tokenizer(path):
    """A tokenizer that no tokenizer.json can hold, so that its file is kept: two of its pieces have one score."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((f"<0x{byte:02X}>", 0.0) for byte in range(256))]
    pieces += [("a", -9.0), ("b", -9.0), (" ", -9.0), ("ab", -1.0), ("ba", -1.0)]
    packed = (struct.pack("<fi", score, len(text)) + text.encode() for text, score in pieces)
    path.write_bytes(struct.pack("<i", 9) + b"".join(packed))
    return subgpt.Tokenizer.load(path)


def test_another_tokenizer_takes_the_place_of_the_one_before(tokenizer, tiny, saved, tmp_path):
    kept = llama2c_tokenizer(tmp_path / "tokenizer.bin")
    model = GPT(tiny(vocab_size=max(kept.vocab_size, tokenizer.vocab_size)), seed=1)
    for words in (kept, tokenizer, kept):
        model.save(saved, tokenizer=words)
        assert load(saved)[1] == words
    assert not (saved / "tokenizer_config.json").exists()


def test_the_directory_is_what_transformers_expects(model, tokenizer, saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert config["eos_token_id"] == tokenizer.eot_id
    assert config["n_positions"] == config["n_ctx"] == 16
    tensors = load_file(saved / "model.safetensors")
    assert tensors["transformer.h.0.attn.c_attn.weight"].shape == (16, 48)
    assert "lm_head.weight" not in tensors


def test_a_saved_tokenizer_names_what_texts_begin_and_end_with(tiny, poems, tmp_path):
    """Names that are not <|endoftext|>: without them transformers finds neither, and lm-eval no id to begin with."""
    tok = subgpt.Tokenizer.train(iter(poems), vocab_size=258, special_tokens=("<s>", "</s>"))
    values = json.loads(tok.to_json())
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    values["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
    }
    tok = subgpt.Tokenizer.from_json(json.dumps(values))
    model = GPT(tiny(vocab_size=258), seed=1)
    for ends, named in ([257], "</s>"), (257, "</s>"), ([999], None), ([], None):
        model.generation_config = {"eos_token_id": ends}
        model.save(tmp_path, tokenizer=tok)
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert (config["bos_token"], config["eos_token"]) == ("<s>", named)
        assert load(tmp_path)[1] == tok


def test_a_model_without_biases_is_stored_with_zero_ones(tiny, tmp_path):
    model = GPT(tiny(bias=False), seed=1)
    model.save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert not tensors["transformer.h.0.attn.c_attn.bias"].any()
    assert json.loads((tmp_path / "config.json").read_text())["subgpt"] == {"bias": False}
    loaded, _ = load(tmp_path)
    assert same(loaded, model)


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": False}, {"bias": False}])
def test_shards_are_read_as_one(tiny, tmp_path, changes):
    model = GPT(tiny(**changes), seed=4)
    model.save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:4], "model-2.safetensors": names[4:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, tmp_path / file)
    weight_map = {name: file for file, part in parts.items() for name in part}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "model.safetensors").unlink()
    assert same(load(tmp_path)[0], model)

    (tmp_path / "model-2.safetensors").rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(
        MissingFileError, match=r"model-2\.safetensors: no such file, but .*index\.json names it"
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["../m.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "c:\\x", "a\\b"]
)
def test_an_index_that_leads_out_of_its_folder_is_refused(saved, name):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="not a plain file name"):
        load(saved)


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "nonsense"])
def test_an_index_of_another_kind_is_refused(saved, text):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json"):
        load(saved)


def test_what_is_not_there(tmp_path, saved):
    for nothing in (None, 3, ""):
        with pytest.raises(MissingFileError, match="names no directory"):
            load(nothing)
    with pytest.raises(MissingFileError, match="no such directory"):
        load(tmp_path / "nothing")
    (saved / "model.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"model\.safetensors: no such file"):
        load(saved)
    (saved / "config.json").unlink()
    with pytest.raises(MissingFileError, match=r"is a tokenizer, .* config\.json"):
        load(saved)
    with pytest.raises(CheckpointError, match="give the directory"):
        load(saved / "tokenizer.json")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "ckpt.pth", "weights.npz"])
def test_pickles_are_never_opened(saved, name):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    (saved / name).write_bytes(pickle.dumps(Bomb()))
    (saved / "model.safetensors").unlink()
    for path in (saved, saved / name):
        with pytest.raises(CheckpointError, match=r"can run code when opened.*save_pretrained"):
            load(path)
    shutil.copy(saved / name, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="can run code when opened"):
        load(saved)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "a web page"),
        (b"PK\x03\x04" + bytes(100), "can run code"),
        (b"", "model.safetensors"),
        (b"12", "model.safetensors"),
        (struct.pack("<Q", 2**63) + b"{}", "model.safetensors"),
        (struct.pack("<Q", 2) + b"[]", "model.safetensors"),
    ],
)
def test_files_that_are_no_weights(saved, content, said):
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        load(saved)


def test_weights_cut_off_anywhere_are_refused(saved):
    whole = (saved / "model.safetensors").read_bytes()
    for length in (*range(0, 60, 7), len(whole) // 2, len(whole) - 1):
        (saved / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load(saved)


def test_weights_of_another_shape_or_name_are_named(saved, tiny):
    GPT(tiny(n_layer=2), seed=1).save(saved / "other")
    shutil.copy(saved / "other" / "model.safetensors", saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"transformer\.h\.1\."):
        load(saved)
    GPT(tiny(n_inner=20), seed=1).save(saved / "third")
    shutil.copy(saved / "third" / "model.safetensors", saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"c_fc.*\[16, 20\]"):
        load(saved)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "[1]", "[" * 100_000, '{"model_type": "llama"}', '{"model_type"']
)
def test_a_config_that_is_none(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises((CheckpointError, ConfigError), match=r"config\.json"):
        load(saved)


def test_a_tokenizer_larger_than_the_model_is_refused(tiny, tokenizer, tmp_path):
    GPT(tiny(vocab_size=7), seed=1).save(tmp_path, tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match="they do not belong together"):
        load(tmp_path)


def test_a_save_that_fails_leaves_the_old_model_whole(model, tokenizer, tiny, saved, monkeypatch):
    """Another shape is being written over it: half of its files would open as neither."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(path, data):
        raise subgpt.OutputError(f"{path}: No space left on device")

    for fail in ("tokenizer.json", "model.safetensors"):
        other = GPT(tiny(n_layer=2), seed=2)
        with monkeypatch.context() as patch:
            if fail == "model.safetensors":
                patch.setattr(other, "native", Full(other.native))
            else:
                patch.setattr(subgpt.Tokenizer, "save", full)
            with pytest.raises(subgpt.OutputError, match="No space left"):
                other.save(saved, tokenizer=tokenizer)
        assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    (saved / ".saving").mkdir()
    (saved / ".saving" / "model.safetensors").write_bytes(b"what a killed process left")
    other.save(saved, tokenizer=tokenizer)
    assert same(load(saved)[0], other)
    assert not (saved / ".saving").exists()


class Full:
    """A native model for whose weights the disk has no room."""

    def __init__(self, native):
        self._native = native

    def __getattr__(self, name):
        return getattr(self._native, name)

    def save_safetensors(self, path, metadata):
        raise subgpt.OutputError(f"{path}: No space left on device")


def test_saving_where_nothing_can_be_written(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(subgpt.OutputError, match="cannot write there"):
        model.save(tmp_path / "file")
    with pytest.raises(subgpt.OutputError, match="cannot write there"):
        model.save(tmp_path / "file" / "below")


def test_of_the_model_that_was_there_before_nothing_is_left(model, tokenizer, saved):
    model.chat_template = CHATML
    model.save(saved, tokenizer)
    assert load(saved)[0].chat_template is not None
    (saved / "model.safetensors.index.json").write_text("{}", encoding="utf-8")
    model.chat_template = None
    model.save(saved)
    loaded, words = load(saved)
    assert loaded.chat_template is None
    assert words == tokenizer, "the tokenizer stays"
    assert not (saved / "model.safetensors.index.json").exists()


@pytest.mark.parametrize("kept", [True, False])
def test_what_a_tokenizer_that_stays_says_of_itself_stays_but_for_the_template(tokenizer, saved, kept):
    place = saved / "tokenizer_config.json"
    config = json.loads(place.read_text()) | {"bos_token": "<|endoftext|>", "model_max_length": 16}
    place.write_text(json.dumps({**config, "chat_template": "{{ bos_token }}"}))
    model, _ = load(saved)
    assert model.chat_template is not None
    if not kept:
        model.chat_template = None
    model.save(saved)
    assert json.loads(place.read_text()) == config
    again, words = load(saved)
    assert (again.chat_template is not None) is kept
    assert words == tokenizer
