"""minbpe's own checks, which `cases/minbpe.py` has as data, on tokenizers that are trained here and on GPT-4's."""

from __future__ import annotations

import pytest

from subgpt import Tokenizer, TokenizerError

from .cases import minbpe as cases

WHOLE = r"[\s\S]+"  # no split at all, as minbpe's BasicTokenizer


def texts(shared) -> list[str]:
    play = (shared / "data" / "corpora" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    return [*cases.TEXTS, play[:200_000]]


@pytest.mark.parametrize("pattern", [WHOLE, "gpt2", "gpt4"])
def test_bytes_alone_give_back_every_text(shared, pattern):
    tok = Tokenizer.train(["a"], vocab_size=256, pattern=pattern, special_tokens=())
    for text in texts(shared):
        ids = tok.encode(text)
        assert bytes(ids.tolist()) == text.encode()
        assert tok.decode(ids) == text


def test_gpt4s_ids(ours, tiktokens, shared):
    tok, theirs = ours("cl100k"), tiktokens("cl100k")
    for text in texts(shared):
        ids = tok.encode(text).tolist()
        assert ids == theirs.encode(text)
        assert tok.decode(ids) == text


def test_gpt4s_ids_with_special_tokens(ours, tiktokens):
    tok = ours("cl100k")
    assert tok.special_tokens == cases.SPECIAL_TOKENS
    ids = tok.encode(cases.WITH_SPECIAL, allowed_special="all").tolist()
    assert ids == tiktokens("cl100k").encode(cases.WITH_SPECIAL, allowed_special="all")
    assert set(cases.SPECIAL_TOKENS.values()) <= set(ids)
    assert tok.decode(ids) == cases.WITH_SPECIAL


@pytest.mark.parametrize("pattern", [WHOLE, "gpt2", "gpt4"])
def test_the_textbook_example(pattern):
    tok = Tokenizer.train([cases.TEXTBOOK], vocab_size=256 + 3, pattern=pattern, special_tokens=())
    assert tok.encode(cases.TEXTBOOK).tolist() == cases.TEXTBOOK_IDS
    assert tok.decode(cases.TEXTBOOK_IDS) == cases.TEXTBOOK


@pytest.mark.parametrize("special", [(), tuple(cases.SPECIAL_TOKENS)])
@pytest.mark.parametrize("pattern", [WHOLE, "gpt4"])
def test_trained_saved_and_loaded(tmp_path, pattern, special):
    size = 256 + cases.MERGES + len(special)
    tok = Tokenizer.train([cases.TO_LEARN], vocab_size=size, pattern=pattern, special_tokens=special)
    assert len(tok) == size
    assert list(tok.special_tokens) == list(special)
    ids = tok.encode(cases.TO_LEARN, allowed_special="all").tolist()
    assert len(ids) < len(cases.TO_LEARN.encode())
    assert tok.decode(ids) == cases.TO_LEARN
    assert set(tok.special_tokens.values()) <= set(ids)
    tok.save(tmp_path / "tok")
    again = Tokenizer.load(tmp_path / "tok")
    assert again == tok
    assert again.encode(cases.TO_LEARN, allowed_special="all").tolist() == ids
    assert again.decode(ids) == cases.TO_LEARN


def test_special_tokens_named_after_training(tmp_path):
    tok = Tokenizer.train([cases.TO_LEARN], vocab_size=256 + cases.MERGES, special_tokens=())
    path = tmp_path / "ranks.tiktoken"
    tok.save(path, format="tiktoken")
    again = Tokenizer.load(path, pattern="gpt4", special_tokens=list(cases.SPECIAL_TOKENS))
    assert list(again.special_tokens.values()) == list(range(len(tok), len(tok) + len(cases.SPECIAL_TOKENS)))
    assert (again.encode_ordinary(cases.TO_LEARN) == tok.encode(cases.TO_LEARN, disallowed_special=())).all()
    ids = again.encode(cases.WITH_SPECIAL, allowed_special="all")
    assert set(again.special_tokens.values()) <= set(ids.tolist())
    assert again.decode(ids) == cases.WITH_SPECIAL
    with pytest.raises(TokenizerError, match="large gaps"):  # see cases.LEFT_OUT
        Tokenizer.load(path, pattern="gpt4", special_tokens=cases.SPECIAL_TOKENS)
