"""Sets of ids on the disk: what is recognised, what is checked, and what others wrote."""

import json

import numpy as np
import pytest

from subgpt import ConfigError, DataError, MissingFileError, Tokenizer
from subgpt.data.foreign import read_ids
from subgpt.data.prepare.prepare import prepare_data
from subgpt.data.token_sets import Named, open_token_set, token_sources


@pytest.fixture(scope="module")
def words():
    return Tokenizer.train(["the cat sat on the mat and the dog on the log"] * 3, vocab_size=280)


@pytest.fixture
def prepared(words, tmp_path):
    texts = [f"The cat {i} sat on the mat {i * i}.\n" for i in range(300)]
    prepare_data(iter(texts), tmp_path / "set", words, val_fraction=0.2, shard_tokens=2000)
    return tmp_path / "set"


def llmc(path, ids, magic=20240520, version=1, dtype="<u2", count=None):
    header = np.zeros(256, dtype="<i4")
    header[:3] = magic, version, len(ids) if count is None else count
    path.write_bytes(header.tobytes() + np.asarray(ids, dtype).tobytes())


def nanogpt(folder, train, val=None):
    folder.mkdir(exist_ok=True)
    np.asarray(train, np.uint16).tofile(folder / "train.bin")
    if val is not None:
        np.asarray(val, np.uint16).tofile(folder / "val.bin")


def test_what_names_ids_and_what_names_text(prepared, tmp_path, monkeypatch):
    nanogpt(tmp_path / "nano", range(50), range(9))
    llmc(tmp_path / "web_train_1.bin", range(50))
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "other.bin").write_bytes(b"something else")
    monkeypatch.chdir(tmp_path)
    assert (
        token_sources("set") == [Named(tmp_path / "set", None)] or token_sources("set")[0].path.name == "set"
    )
    for source in (
        "text.txt",
        "other.bin",
        "none",
        ["a text", "b"],
        iter(["a"]),
        ["text.txt"],
        "x\0y",
        "text:1",
    ):
        assert token_sources(source) is None
    found = token_sources(["set:0.5", "nano:2", prepared.parent / "nano/train.bin:1e-1", "web_*.bin:.5"])
    assert [one.weight for one in found] == [0.5, 2, 0.1, 0.5]
    assert [one.weight for one in token_sources({"set": 1, "nano": 3})] == [1, 3]
    (tmp_path / "set:3").mkdir()
    (tmp_path / "set:3" / "train.bin").write_bytes(b"\0\0")
    assert token_sources("set:3")[0].weight is None
    with pytest.raises(DataError, match=r"'text\.txt' is text, but"):
        token_sources(["set", "text.txt"])
    with pytest.raises(DataError, match="text and cannot have a weight"):
        token_sources("text.txt:2")
    with pytest.raises(ConfigError, match="some have none"):
        token_sources(["set:1", "nano"])
    with pytest.raises(ConfigError, match="above 0"):
        token_sources("set:0")
    with pytest.raises(ConfigError, match="above 0"):
        token_sources({"set": -1})
    with pytest.raises(DataError, match="no set of ids"):
        token_sources({"text.txt": 1})
    with pytest.raises(MissingFileError):
        token_sources({"none": 1})
    (tmp_path / "half" / ".preparing").mkdir(parents=True)
    with pytest.raises(DataError, match="did not come to its end"):
        token_sources("half")


def test_a_prepared_set_is_checked(prepared, words):
    opened = open_token_set(prepared, words, val_fraction=0.1)
    made = json.loads((prepared / "dataset.json").read_text())
    assert len(opened.train) == made["train"]["tokens"]
    assert len(opened.val) == made["val"]["tokens"] > 0
    assert len(made["train"]["shards"]) > 1
    assert len(open_token_set(prepared, words, val_fraction=0).val) == 0
    with pytest.raises(DataError, match="another tokenizer"):
        open_token_set(prepared, Tokenizer.train(["other"], vocab_size=257), val_fraction=0.1)


@pytest.mark.parametrize("name", ["train-00000.bin", "train-00001.bin", "val-00000.bin"])
def test_one_changed_byte_is_noticed(prepared, words, name):
    shard = prepared / name
    raw = bytearray(shard.read_bytes())
    raw[-7] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(DataError, match=rf"{name}: its checksum is"):
        open_token_set(prepared, words, val_fraction=0.1)
    shard.write_bytes(raw[:-2])
    with pytest.raises(DataError, match=rf"{name}: has \d+ bytes where its header promises"):
        open_token_set(prepared, words, val_fraction=0.1)
    shard.unlink()
    with pytest.raises(MissingFileError, match=name):
        open_token_set(prepared, words, val_fraction=0.1)


def test_shards_in_each_others_place_are_noticed(prepared, words):
    first, second = prepared / "train-00000.bin", prepared / "train-00001.bin"
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    with pytest.raises(DataError, match=r"not the shard that dataset\.json speaks of"):
        open_token_set(prepared, words, val_fraction=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(version=9), "version 9"),
        (lambda said: said.pop("tokenizer"), "'tokenizer'"),
        (lambda said: said["train"].update(tokens=-1), r"'train\.tokens'"),
        (lambda said: said["train"]["shards"][0].update(file="../a.bin"), r"'train\.shards\.file'"),
        (lambda said: said["train"]["shards"].pop(), "fingerprint"),
        (lambda said: said.update(format="other"), "describes no data set"),
    ],
)
def test_a_description_that_is_wrong_is_refused(prepared, words, change, message):
    file = prepared / "dataset.json"
    said = json.loads(file.read_text())
    change(said)
    file.write_text(json.dumps(said))
    with pytest.raises(DataError, match=message):
        open_token_set(prepared, words, val_fraction=0.1)
    file.write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: not readable as JSON"):
        open_token_set(prepared, words, val_fraction=0.1)


def test_nanogpt_files(words, tmp_path):
    nanogpt(tmp_path, range(100), range(30))
    for path in (tmp_path, tmp_path / "train.bin"):
        opened = open_token_set(path, words, val_fraction=0.1)
        assert (opened.train[0:100].tolist(), opened.val[0:30].tolist()) == (
            list(range(100)),
            list(range(30)),
        )
        assert opened.val_bytes == 0
    alone = open_token_set(tmp_path / "val.bin", words, val_fraction=0.1)
    assert (len(alone.train), len(alone.val)) == (0, 30)
    (tmp_path / "val.bin").unlink()
    opened = open_token_set(tmp_path, words, val_fraction=0.1)
    assert (len(opened.train), opened.val[0:10].tolist()) == (90, list(range(90, 100)))
    nanogpt(tmp_path, [1, 2, 9999])
    with pytest.raises(DataError, match="the id 9999 at place 2, beyond the vocabulary of"):
        open_token_set(tmp_path, words, val_fraction=0.1)
    (tmp_path / "train.bin").write_bytes(b"123")
    with pytest.raises(DataError, match="no whole ids"):
        open_token_set(tmp_path, words, val_fraction=0.1)


def test_llmc_files(words, tmp_path):
    llmc(tmp_path / "web_train_000001.bin", range(50))
    llmc(tmp_path / "web_train_000002.bin", range(50, 80), 20240801, 7, "<u4")
    llmc(tmp_path / "web_val_000000.bin", range(7))
    for path in (tmp_path, tmp_path / "web_*.bin"):
        opened = open_token_set(path, words, val_fraction=0.1)
        assert (opened.train[0:80].tolist(), opened.val[0:7].tolist()) == (list(range(80)), list(range(7)))
    only = open_token_set(tmp_path / "web_train_*.bin", words, val_fraction=0)
    assert (len(only.train), len(only.val)) == (80, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"version": 2}, "version 2 of llm.c's files"),
        ({"magic": 20240801}, "version 1 of llm.c's files"),
        ({"count": 51}, "header promises 1126"),
        ({"count": -1}, "header promises"),
    ],
)
def test_llmc_files_that_are_wrong(tmp_path, given, message):
    llmc(tmp_path / "a.bin", range(50), **given)
    with pytest.raises(DataError, match=message):
        read_ids(tmp_path / "a.bin", "")


def test_shards_of_encode_file(words, tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat " * 50)
    words.encode_file(tmp_path / "a.txt", tmp_path / "shards", shard_tokens=100)
    opened = open_token_set(tmp_path / "shards", words, val_fraction=0)
    assert words.decode(opened.train[0 : len(opened.train)]) == "the cat sat on the mat " * 50
    assert "says with which tokenizer" not in opened.notes[0]
    with pytest.raises(DataError, match="another tokenizer"):
        open_token_set(tmp_path / "shards", Tokenizer.train(["x"], vocab_size=257), val_fraction=0)


def test_shards_of_a_preparation_that_are_named_as_files_are_checked(prepared, words, tmp_path):
    shards = sorted(prepared.glob("*.bin"))
    for shard in shards:
        (tmp_path / "shards").mkdir(exist_ok=True)
        (tmp_path / "shards" / shard.name).write_bytes(shard.read_bytes())
    nanogpt(tmp_path / "shards", range(50))
    opened = open_token_set(tmp_path / "shards", words, val_fraction=0)
    assert "nothing in 1 of them says" in opened.notes[0]
    damaged = tmp_path / "shards" / shards[0].name
    content = bytearray(damaged.read_bytes())
    content[-2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=rf"{shards[0].name}: its checksum is"):
        open_token_set(tmp_path / "shards", words, val_fraction=0)
