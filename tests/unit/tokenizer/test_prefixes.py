"""Entries by their first bytes: the same as by looking at each, for vocabularies of every kind."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import subgpt
from subgpt.tokenizer import add_special_tokens
from subgpt.tokenizer.prefixes import entry_prefixes

TEXT = "low lower lowest, née niño 日本 日本語 naïve; so low a low"
TOKENIZERS = {
    "subword": subgpt.Tokenizer.train([TEXT], vocab_size=290),
    "no special tokens": subgpt.Tokenizer.train([TEXT], vocab_size=290, special_tokens=()),
    "char": subgpt.Tokenizer.train([TEXT], level="char"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
@given(st.data())
def test_found_are_those_that_begin_so(name, data):
    tokenizer = TOKENIZERS[name]
    found = entry_prefixes(tokenizer)
    ordinary = [id for id in range(tokenizer.vocab_size) if id not in tokenizer.special_tokens.values()]
    entries = {id: tokenizer.decode_bytes([id]) for id in ordinary}
    some = st.sampled_from([*entries.values()])
    prefix = data.draw(st.one_of(st.binary(max_size=2), some, some.map(lambda entry: entry[:-1])))
    expected = {id for id, entry in entries.items() if entry.startswith(prefix)}
    assert set(found.beginning_with(prefix).tolist()) == expected
    assert found.beginning_with(prefix).dtype == "uint32"
    assert found.has_longer(prefix) == any(len(entries[id]) > len(prefix) for id in expected)
    assert found.longest == max(map(len, entries.values()))


@pytest.mark.parametrize("prefix", [b"\xff", b"a\xff", b"\xffa", b"\xff\xff", b"a\xffb", b"aX"])
def test_bytes_that_no_text_has_are_bytes_as_others(prefix):
    ranks = [*(bytes([byte]) for byte in range(256)), b"a\xff", b"\xffa", b"a\xffb", b"aX", b"aY"]
    lines = "".join(f"{base64.b64encode(entry).decode()} {id}\n" for id, entry in enumerate(ranks))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "some.tiktoken").write_text(lines)
        tokenizer = subgpt.Tokenizer.load(Path(folder) / "some.tiktoken", pattern="gpt2", special_tokens=())
    found = entry_prefixes(tokenizer)
    expected = [id for id, entry in enumerate(ranks) if entry.startswith(prefix)]
    assert found.beginning_with(prefix).tolist() == sorted(expected, key=ranks.__getitem__)
    assert found.has_longer(prefix) == any(len(ranks[id]) > len(prefix) for id in expected)


def test_special_tokens_are_no_entries():
    tokenizer = add_special_tokens(TOKENIZERS["subword"], ["low<|end|>"])
    found = entry_prefixes(tokenizer)
    assert not set(found.beginning_with(b"").tolist()) & set(tokenizer.special_tokens.values())
    assert found.entries[tokenizer.special_tokens["low<|end|>"]] == b""


def test_entries_are_those_inside_of_a_text(shared):
    tokenizer = subgpt.Tokenizer.load(
        shared / "data" / "model" / "tok512.model"
    )  # leaves the first space of a text out
    found = entry_prefixes(tokenizer)
    ids = tokenizer.encode("Once upon a time, né")
    assert b"".join(found.entries[id] for id in ids) == " Once upon a time, né".encode()


def test_each_tokenizer_is_sorted_once():
    tokenizer = TOKENIZERS["subword"]
    assert entry_prefixes(tokenizer) is entry_prefixes(subgpt.Tokenizer.from_json(tokenizer.to_json()))
