"""Segments are whole characters, and their tokens are the tokens of the text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt import Tokenizer, TokenizerError
from subgpt.tokenizer import Token, segment, shared_spans

TOK = Tokenizer.train(["a naïve text, the 漢字 and 🙂 of it"] * 3, vocab_size=280)


@given(st.text(max_size=40))
def test_segments_put_the_text_and_its_ids_together_again(text: str) -> None:
    segments = segment(TOK, text)
    assert "".join(part.text for part in segments) == text
    tokens = [token for part in segments for token in part.tokens]
    assert [token.id for token in tokens] == TOK.encode_ordinary(text).tolist()
    assert all(b"".join(t.bytes for t in part.tokens).decode() == part.text for part in segments)
    assert all(token.bytes == TOK.decode_bytes([token.id]) for token in tokens)


@given(st.text(max_size=40))
def test_segments_are_as_small_as_characters_allow(text: str) -> None:
    for part in segment(TOK, text):
        for end in range(1, len(part.tokens)):
            with pytest.raises(UnicodeDecodeError):
                b"".join(token.bytes for token in part.tokens[:end]).decode()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_character_that_is_normalized_is_shown_once(form: str) -> None:
    parsed = json.loads(TOK.to_json())
    normalizing = Tokenizer.from_json(json.dumps({**parsed, "normalizer": {"type": form}}))
    text = "n\u00e9 \u1ec7, na\u00efve"
    segments = segment(normalizing, text)
    assert "".join(part.text for part in segments) == text
    tokens = [token.id for part in segments for token in part.tokens]
    assert tokens == normalizing.encode_ordinary(text).tolist()
    assert len(next(part for part in segments if part.text == "\u1ec7").tokens) > 2


def test_kinds() -> None:
    assert [p.tokens[0].kind for p in segment(TOK, "a<|endoftext|>", allowed_special="all")] == [
        "ordinary",
        "special",
    ]
    words = Tokenizer.train(["one two"], level="word")
    assert "".join(part.text for part in segment(words, "three<|endoftext|>")) == "three<|endoftext|>"
    (unknown,) = segment(words, "three")
    assert unknown.text == "three"
    assert unknown.tokens == (Token(words.unk_id or 0, b"three", "unknown"),)


def test_a_lone_surrogate_is_shown_as_what_it_becomes() -> None:
    assert "".join(part.text for part in segment(TOK, "a\ud800b")) == "a\ufffdb"


def test_a_tokenizer_without_places_gives_what_its_ids_decode_to() -> None:
    """One that lacks bytes leaves them out, so that its tokens have no places in the text."""
    parsed = json.loads(TOK.to_json())
    lacks = {entry: id for entry, id in parsed["model"]["vocab"].items() if entry != "©"}  # 0xA9 of é
    few = Tokenizer.from_json(json.dumps({**parsed, "model": {**parsed["model"], "vocab": lacks}}))
    text = "né so ü é<|endoftext|>"
    with pytest.raises(TokenizerError, match="no place"):
        few.encode_with_offsets(text, disallowed_special=())
    for allowed, kinds in (("all", {"special", "ordinary"}), ((), {"ordinary"})):
        segments = segment(few, text, allowed_special=allowed)
        assert "".join(part.text for part in segments) == "n\ufffd so ü \ufffd<|endoftext|>"
        tokens = [token for part in segments for token in part.tokens]
        assert [token.id for token in tokens] == few.encode(
            text, allowed_special=allowed, disallowed_special=()
        ).tolist()
        assert {token.kind for token in tokens} == kinds


def test_shared_spans_of_nothing() -> None:
    assert shared_spans([]).shape == (0, 2)
    assert shared_spans([b"\xa9"]).tolist() == [[0, 1]]
    assert shared_spans([b"a", b"", b"\xc3", b"\xa9"]).tolist() == [[0, 1], [1, 2], [2, 4]]
