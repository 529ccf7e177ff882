"""Cutting a text that comes in pieces gives the documents of the whole one."""

from __future__ import annotations

import errno
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt.data.decoding import Decoded
from subgpt.data.documents import read_documents
from subgpt.data.prepare.hashing import hash_text
from subgpt.data.prepare.texts import Cutter, LongText
from subgpt.errors import OutputError

SEPARATOR = "<|>"
TEXTS = st.lists(st.sampled_from(["a", "<", "<|", "<|>", "|>", "\n", "\r\n", "\r", "é", " "]), max_size=30)


def cut(text, size, long_chars, folder, separator=SEPARATOR):
    chunks = [Decoded(text[i : i + size]) for i in range(0, len(text), size)]
    found = []
    for piece in Cutter(separator, folder, 7, long_chars).cut(iter(chunks)):
        if isinstance(piece.text, LongText):
            hashes = piece.text.close()
            whole = piece.text.path.read_bytes().decode()
            assert hashes == hash_text(whole, 7)
            assert piece.text.size == hashes.size
            assert piece.text.blank == (not whole.strip())
            piece.text.remove()
        else:
            whole = piece.text
        found.append((piece.line, whole))
    assert list(folder.iterdir()) == []
    return [(line, whole) for line, whole in found if whole.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@given(parts=TEXTS, size=st.integers(1, 9), long_chars=st.integers(1, 20))
def test_the_documents_of_a_text(folder, tmp_path_factory, parts, size, long_chars):
    text = "".join(parts) + "x"
    file = tmp_path_factory.getbasetemp() / "whole.txt"
    file.write_bytes(text.encode())
    for separator in (SEPARATOR, None):
        whole = [(d.origin.line, d.text) for d in read_documents(file, separator=separator)]
        assert cut(text, size, long_chars, folder, separator) == whole


@pytest.mark.parametrize("long_chars", [2, 100])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_only_the_documents_that_hold_the_damage_are_marked(folder, size, long_chars):
    text = "one<|>tw\ufffdo and<|>three<|>\ufffd<|>five"
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    found = {}
    for piece in Cutter(SEPARATOR, folder, 7, long_chars).cut(Decoded(c, "\ufffd" in c) for c in chunks):
        if isinstance(piece.text, LongText):
            piece.text.close()
            found["".join(piece.text.blocks())] = piece.damaged
            piece.text.remove()
        else:
            found[piece.text] = piece.damaged
    assert found == {"one": False, "tw\ufffdo and": True, "three": False, "\ufffd": True, "five": False}


def test_what_is_left_in_the_middle_leaves_nothing_behind(folder):

    def broken():
        yield Decoded("abcdefgh")
        raise OSError("a bad disk")

    with pytest.raises(OSError, match="bad disk"):
        list(Cutter(None, folder, 7, 3).cut(broken()))
    assert list(folder.iterdir()) == []


def test_a_disk_without_room_is_named(tmp_path):
    class Full(io.BytesIO):
        def write(self, _data):
            raise OSError(errno.ENOSPC, "No space left on device")

    text = LongText(tmp_path, 7)
    text._file.close()
    text._file = Full()
    with pytest.raises(OutputError, match=r"text-.*\.txt: cannot write there \(No space left on device\)"):
        text.append("a")
    text.remove()
    assert list(tmp_path.iterdir()) == []
