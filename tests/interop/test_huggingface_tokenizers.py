"""Hugging Face `tokenizers` reads the tokenizer.json of published ranks and of tokenizers that are trained here."""

from __future__ import annotations

import pytest
from hypothesis import given

from subgpt.tokenizer import Tokenizer

from ..parity.texts import BORDERS, differing, every_text, known
from .conftest import VOCABULARIES

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install tokenizers")


@pytest.fixture(scope="module")
def texts(shared):
    return every_text(shared)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_published_vocabularies_saved_here(ours, name, texts, tmp_path):
    ours, path = ours(name), tmp_path / "tokenizer.json"
    ours.save(path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    assert Tokenizer.load(path) == ours
    part = {name: known(text[:20_000]) for name, text in texts.items()}
    assert differing(ours.encode_ordinary, lambda text: theirs.encode(text).ids, part) == []


@pytest.fixture(
    scope="module",
    params=["char", "word", "gpt2", "gpt4", "o200k"],
)
def trained(request, shared, tmp_path_factory):
    """A tokenizer trained here, saved, and loaded by `tokenizers`."""
    level = request.param if request.param in ("char", "word") else "subword"
    pattern = request.param if level == "subword" else "gpt4"
    sources = [shared / "data" / "corpora" / "tinyshakespeare.txt", shared / "data" / "unicode" / "udhr"]
    ours = Tokenizer.train(sources, level=level, pattern=pattern, vocab_size=4000)
    folder = tmp_path_factory.mktemp(level)
    ours.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), ours


def test_trained_tokenizers_give_the_same_ids_in_tokenizers(trained, texts):
    theirs, ours = trained
    part = {name: known(text[:40_000]) for name, text in texts.items()}
    assert differing(ours.encode_ordinary, lambda text: theirs.encode(text).ids, part) == []
    assert theirs.get_vocab_size() == ours.vocab_size
    for text in part.values():
        ids = ours.encode_ordinary(text)
        assert theirs.decode(ids.tolist(), skip_special_tokens=False) == ours.decode(ids)


@given(text=BORDERS)
def test_trained_tokenizers_on_the_borders(trained, text):
    theirs, ours = trained
    text = known(text)
    ids = ours.encode(text, allowed_special="all").tolist()
    assert ids == theirs.encode(text).ids
    assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids)
    if ours.unk_id not in ids:
        assert ours.decode(ids) == text


def test_special_tokens_in_tokenizers(trained):
    theirs, ours = trained
    text = "First<|endoftext|> Citizen:<|endoftext|><|endoftext|>\n"
    assert ours.encode(text, allowed_special="all").tolist() == theirs.encode(text).ids
    assert {t.content: i for i, t in theirs.get_added_tokens_decoder().items()} == ours.special_tokens
