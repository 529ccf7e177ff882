"""Looking at running text: what is counted does not depend on how it was read."""

from __future__ import annotations

import pytest

from subgpt import DataError, Tokenizer
from subgpt.data.prepare import texts
from subgpt.data.survey import survey_text


def test_texts_on_the_disk_are_counted_like_those_in_memory(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("so much depends<|endoftext|>upon a red wheel barrow", encoding="utf-8")
    tok = Tokenizer.train(["so much on a red"], level="char")
    in_memory = survey_text(file, tok)
    assert (in_memory.tokens, in_memory.unknown) == (40, 6)
    monkeypatch.setattr(texts.Cutter.__init__, "__defaults__", (5,))
    assert survey_text(file, tok) == in_memory


def test_a_damaged_byte_is_damage_of_one_document(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"<|endoftext|>".join([b"one", b"t\xffo", *(str(n).encode() for n in range(50))]))
    assert survey_text(file).damaged == 1


@pytest.mark.parametrize("damage", [b"plain", b"\x1f\x8b", b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    (tmp_path / "a.txt.gz").write_bytes(damage)
    with pytest.raises(DataError, match=r"a\.txt\.gz: reading failed after 0 bytes"):
        survey_text(tmp_path / "a.txt.gz")
