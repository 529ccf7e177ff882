"""tiktoken's own checks, which `cases/tiktoken.py` has as data: subgpt by them, and tiktoken where it is installed."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subgpt import InvalidValueError, Tokenizer, TokenizerError

from .cases import tiktoken as cases
from .conftest import VOCABULARIES

FEW = settings(max_examples=10)


@pytest.fixture(scope="module", params=["r50k", "cl100k"])
def tok(request, ours) -> Tokenizer:
    """The vocabularies that most of their checks are for."""
    return ours(request.param)


@pytest.mark.parametrize(("name", "text", "ids"), cases.IDS)
def test_ids(ours, tiktokens, name, text, ids):
    tok = ours(name)
    assert tok.encode(text).tolist() == ids == tiktokens(name).encode(text)
    assert tok.decode(ids) == text.encode("utf-16", "surrogatepass").decode("utf-16")
    assert tok.count(text) == len(ids)


@pytest.mark.parametrize(("name", "text", "ids"), cases.IDS_WITH_SPECIAL)
def test_ids_with_special_tokens(ours, tiktokens, name, text, ids):
    assert ours(name).encode(text, allowed_special="all").tolist() == ids
    assert tiktokens(name).encode(text, allowed_special="all") == ids
    assert ours(name).decode(ids) == text


def test_a_lone_surrogate_is_replaced(ours, tiktokens):
    name, text, replaced = cases.LONE_SURROGATE
    expected = tiktokens(name).encode(text)
    assert ours(name).encode(text).tolist() == ours(name).encode(replaced).tolist() == expected


@pytest.mark.parametrize("text", cases.ROUNDTRIPS)
def test_roundtrips(tok, text):
    assert tok.decode(tok.encode(text)) == tok.decode(tok.encode_ordinary(text)) == text


@pytest.mark.parametrize("repeated", cases.REPEATED)
def test_what_repeats_itself(tok, repeated):
    text = repeated * cases.TIMES
    for whole in (text, f" {text}", f" {text}\n"):
        assert tok.decode(tok.encode(whole)) == whole


def test_a_million_times_the_same(ours):
    name, repeated, times = cases.LARGE
    tok = ours(name)
    ids = tok.encode(repeated * times)
    assert tok.decode_bytes(ids) == repeated.encode() * times


@pytest.mark.parametrize(("text", "allowed", "disallowed", "found"), cases.SPECIAL)
def test_special_tokens(ours, tiktokens, text, allowed, disallowed, found):
    tok, theirs = ours("cl100k"), tiktokens("cl100k")
    rules = {"allowed_special": allowed or set(), "disallowed_special": disallowed}
    if found is None:
        with pytest.raises(TokenizerError):
            tok.encode(text, **rules)
        with pytest.raises(ValueError, match="disallowed special token"):
            theirs.encode(text, **rules)
        return
    ids = tok.encode(text, **rules).tolist()
    assert {name for name, id in tok.special_tokens.items() if id in ids} == found
    assert ids == theirs.encode(text, **rules)
    assert tok.decode(ids) == text


@pytest.mark.parametrize("texts", cases.BATCHES)
def test_batches(tok, texts):
    ids, offsets = tok.encode_batch(texts)
    rows = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert rows == [tok.encode(text).tolist() for text in texts]


@pytest.mark.parametrize(("text", "starts"), cases.OFFSETS)
def test_offsets(ours, tiktokens, text, starts):
    located = ours("cl100k").encode_with_offsets(text, allowed_special="all")
    assert located.chars[:, 0].tolist() == starts
    theirs = tiktokens("cl100k").decode_with_offsets(located.ids.tolist())
    assert theirs == (text, starts)


def test_pickled_with_a_special_token_of_ones_own(ours, shared):
    name, special, text = cases.PICKLED
    path = shared / "data" / "vocab" / "tiktoken" / f"{name}_base.tiktoken"
    for tok in (ours(name), Tokenizer.load(path, special_tokens=special)):
        again = pickle.loads(pickle.dumps(tok))
        assert again == tok
        assert (again.encode(text) == tok.encode(text)).all()
    (token, id) = next(iter(special.items()))
    assert again.encode(token, allowed_special="all").tolist() == [id]


def test_an_entry_that_is_no_text_by_itself(ours):
    name, data, id = cases.PARTIAL
    tok = ours(name)
    assert tok.decode_bytes([id]) == data
    assert tok.token_to_id(tok.id_to_token(id)) == id


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_entry_by_its_name(ours, name):
    tok = ours(name)
    entries = [tok.id_to_token(id) for id in range(tok.vocab_size)]
    assert [tok.token_to_id(entry) for entry in entries if entry is not None] == [
        id for id, entry in enumerate(entries) if entry is not None
    ]


@FEW
@given(texts=st.lists(st.text(), max_size=5))
def test_any_texts(tok, texts):
    ids, offsets = tok.encode_batch(texts, allowed_special="all")
    for text, first, last in zip(texts, offsets[:-1], offsets[1:], strict=True):
        assert ids[first:last].tolist() == tok.encode(text, allowed_special="all").tolist()
        assert tok.decode(ids[first:last]) == text
        assert (tok.encode(text, disallowed_special=()) == tok.encode_ordinary(text)).all()


@FEW
@given(data=st.data())
def test_any_tokens_have_the_places_that_tiktoken_gives_them(ours, tiktokens, data):
    tok, theirs = ours("cl100k"), tiktokens("cl100k")
    ids = data.draw(st.lists(st.integers(0, 100_000), min_size=1, max_size=20))
    text = tok.decode(ids, errors="ignore")
    located = tok.encode_with_offsets(text, allowed_special="all")
    assert theirs.decode_with_offsets(located.ids.tolist()) == (text, located.chars[:, 0].tolist())


def test_what_is_refused_in_other_words(ours):
    tok = ours("cl100k")
    with pytest.raises(InvalidValueError, match="at position 0"):
        tok.decode([tok.vocab_size])
    with pytest.raises(TokenizerError, match="UTF-8"):
        tok.decode([cases.PARTIAL[2]], errors="strict")
