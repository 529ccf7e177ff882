"""Bad files and bad rows: always a subgpt error that names the place, never a hang, a crash or silence."""

import gzip
import json
import os
import random
import sys

import numpy as np
import pytest

import subgpt
from subgpt.data import (
    WindowLoader,
    load_corpus,
    read_documents,
    read_examples,
    sniff_kind,
    tokenize_examples,
)
from subgpt.errors import DataError, SubgptError


class ByteTokenizer:
    """UTF-8 bytes as ids; id 256 ends a text."""

    vocab_size = 257
    eot_id = 256
    template = ((), ())

    def encode_batch(self, texts, **rules):
        rows = [np.frombuffer(text.encode("utf-8"), dtype=np.uint8) for text in texts]
        offsets = np.cumsum([0, *map(len, rows)]).astype(np.uint64)
        return np.concatenate([*rows, np.empty(0, np.uint8)]).astype(np.uint32), offsets

    def decode_bytes(self, ids):
        return bytes(ids.astype(np.uint8))


TEXTS = {
    "empty": b"",
    "one_byte": b"a",
    "white_space": b" \r\n\t" * 100,
    "no_final_newline": b"abc",
    "bom_only": b"\xef\xbb\xbf",
    "utf16": "text".encode("utf-16"),
    "utf16_odd": "text".encode("utf-16") + b"x",
    "utf16_lone_surrogate": b"\xff\xfe\x00\xd8a\x00",
    "utf32": "text".encode("utf-32"),
    "invalid_in_the_middle": b"good " * 50 + b"\xc3\x28\xff" + b" good" * 50,
    "cut_character": "é".encode()[:1],
    "overlong": b"\xc0\x80" * 20,
    "surrogate_bytes": b"\xed\xa0\x80 abc",
    "nul_late": b"a" * 9000 + b"\0" + b"b",
    "carets": b"^" * 1_000_000,
    "joiners": "\u200d".encode() * 100_000,
    "separators": b"<|endoftext|>" * 1000,
    "one_long_line": b"word " * 1_000_000,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("errors", ["replace", "strict"])
@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("name", TEXTS)
def test_any_bytes_give_a_corpus_or_an_error_that_names_the_file(tmp_path, name, suffix, errors):
    path = tmp_path / f"{name}{suffix}"
    data = TEXTS[name]
    path.write_bytes(gzip.compress(data, 1) if suffix.endswith(".gz") else data)
    try:
        train, val, summary = load_corpus(path, ByteTokenizer(), errors=errors)
    except SubgptError as error:
        told = str(error)
        assert name in told
    else:
        assert len(train) >= 2
        assert len(val) >= 2
        assert train.text_bytes + val.text_bytes == summary.text_bytes


@pytest.mark.parametrize("seed", range(4))
def test_flipped_and_cut_json_lines_never_escape_as_another_error(tmp_path, seed):
    rng = random.Random(seed)
    rows = [{"question": f"Q {i} é?", "answer": "A."} for i in range(3)]
    rows.append({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]})
    whole = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / "a.jsonl"
    for _ in range(200):
        data = bytearray(whole[: rng.randrange(len(whole) + 1)])
        for _ in range(rng.randrange(3)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        for use in (sniff_kind, lambda p: tokenize_examples(read_examples(p), ByteTokenizer())):
            try:
                use(path)
            except SubgptError as error:
                assert str(path) in str(error)  # noqa: PT017 (it may pass, too)


def test_a_cut_gzip_at_every_byte(tmp_path):
    whole = gzip.compress(b"hello world " * 20)
    path = tmp_path / "a.txt.gz"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SubgptError, match=r"a\.txt\.gz"):
            list(read_documents(path))


def test_a_directory_named_like_a_file_and_a_file_named_like_a_directory(tmp_path):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "corpus").write_text("hello", encoding="utf-8")
    assert [d.text for d in read_documents(tmp_path / "a.txt")] == ["hello"]
    assert [d.text for d in read_documents(str(tmp_path / "a.txt" / "corpus"))] == ["hello"]
    with pytest.raises(SubgptError):
        list(read_documents(str(tmp_path / "a.txt" / "corpus" / "below")))


def test_names_with_spaces_letters_of_all_kinds_and_magic(tmp_path):
    for name in ("a b.txt", "für 诗.txt", "[draft] {x}.txt"):
        path = tmp_path / name
        path.write_text(name, encoding="utf-8")
        assert [d.text for d in read_documents(str(path))] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file names that are not text")
def test_a_name_that_is_no_text_is_read_and_printable(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.txt"
    with open(name, "wb") as handle:  # noqa: PTH123 (pathlib takes no bytes)
        handle.write(b"hello")
    [document] = read_documents(tmp_path)
    assert document.text == "hello"


def test_a_file_that_goes_away_while_it_is_awaited(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    documents = read_documents(tmp_path)
    next(documents)
    (tmp_path / "b.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.txt"):
        next(documents)


def test_a_corpus_shorter_than_the_block(tmp_path):
    (tmp_path / "a.txt").write_text("short text", encoding="utf-8")
    train, _, _ = load_corpus(tmp_path, ByteTokenizer())
    with pytest.raises(SubgptError, match=rf"has {len(train)} tokens, .*block_size=256 needs 257"):
        WindowLoader(train.tokens, block_size=256, batch_size=1, seed=0)


def test_a_shard_that_is_cut_while_it_is_trained_on_is_named(tmp_path):
    """Reading what is not there any more would end the process by SIGBUS."""
    tok = subgpt.Tokenizer.train(iter(["so much depends upon"]), level="char")
    subgpt.prepare_data(iter(["so much depends upon " * 3000] * 8), tmp_path / "set", tok, val_fraction=0.1)
    shape = subgpt.GPTConfig(vocab_size=tok.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=8)
    config = subgpt.TrainConfig(max_steps=50, batch_size=2, eval_steps=0)

    class Cut(subgpt.Callback):
        def on_step(self, event):
            if event.step == 3:
                os.truncate(tmp_path / "set" / "train-00000.bin", 64)

    with pytest.raises(DataError, match=r"train-00000\.bin: was cut from \d+ to 64 bytes"):
        subgpt.pretrain(subgpt.GPT(shape, seed=1), tok, tmp_path / "set", config, callbacks=[Cut()])


def test_a_shard_that_is_replaced_while_it_is_trained_on_does_no_harm(tmp_path):
    tok = subgpt.Tokenizer.train(iter(["so much depends upon"]), level="char")
    subgpt.prepare_data(iter(["so much depends upon " * 300] * 8), tmp_path / "set", tok, val_fraction=0.1)
    shape = subgpt.GPTConfig(vocab_size=tok.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=8)
    config = subgpt.TrainConfig(max_steps=12, batch_size=2, eval_steps=0)

    class Replace(subgpt.Callback):
        def on_step(self, event):
            if event.step == 3:
                (tmp_path / "new").write_bytes(b"short")
                (tmp_path / "new").replace(tmp_path / "set" / "train-00000.bin")

    losses = [
        subgpt.pretrain(subgpt.GPT(shape, seed=1), tok, tmp_path / "set", config, callbacks=calls).losses
        for calls in ([], [Replace()])
    ]
    assert losses[0] == losses[1]
