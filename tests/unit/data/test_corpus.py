import numpy as np
import pytest

from subgpt.data.corpus import encode_corpus, load_corpus
from subgpt.data.documents import Document, Origin, read_documents
from subgpt.errors import DataError


def test_documents_end_with_the_end_of_text(tok, tok_without_eot):
    corpus = encode_corpus(read_documents(["ab", "cé"]), tok)
    assert corpus.tokens.tolist() == [97, 98, 999, 99, 233, 999]
    assert corpus.tokens.dtype == np.uint32
    assert (corpus.documents, corpus.text_bytes) == (2, 5)
    assert encode_corpus(read_documents(["ab", "cé"]), tok_without_eot).tokens.tolist() == [97, 98, 99, 233]


def test_division_by_document_loses_nothing(tok):
    texts = [f"document number {i} é" for i in range(200)]
    train, val, summary = load_corpus(texts, tok, val_fraction=0.2, seed=3)
    sides = [{t for t in tok.decode(c.tokens).split("<|endoftext|>") if t} for c in (train, val)]
    assert sides[0] | sides[1] == set(texts)
    assert not sides[0] & sides[1]
    assert (train.documents, val.documents) == (len(sides[0]), len(sides[1]))
    for corpus, side in zip((train, val), sides, strict=True):
        assert corpus.text_bytes == sum(len(t.encode()) for t in side)
    assert summary.split == f"by document: {train.documents} train, {val.documents} validation"
    assert summary.train_tokens + summary.val_tokens == sum(len(t) + 1 for t in texts)
    assert "200 documents" in summary.describe()[0]


def test_division_does_not_depend_on_the_order(tok):
    texts = [f"document number {i}" for i in range(200)]
    _, val, _ = load_corpus(texts, tok, seed=3)
    _, again, _ = load_corpus(texts[::-1], tok, seed=3)
    assert sorted(tok.decode(val.tokens).split("<|endoftext|>")) == sorted(
        tok.decode(again.tokens).split("<|endoftext|>")
    )


def test_one_document_is_cut_and_its_bytes_are_exact(tok):
    text = "é" * 50 + "a" * 49
    train, val, summary = load_corpus([text], tok, val_fraction=0.6)
    assert tok.decode(train.tokens) + tok.decode(val.tokens) == text + "<|endoftext|>"
    assert len(val) == 60
    assert (train.text_bytes, val.text_bytes) == (80, 69)
    assert summary.split == "one document: its last 60 % is validation"


def test_no_validation(tok):
    train, val, summary = load_corpus(["abc"], tok, val_fraction=0)
    assert (len(train), len(val), val.documents) == (4, 0, 0)
    assert summary.split == "no validation text was asked for"


def test_too_little_text_names_the_numbers(tok_without_eot):
    with pytest.raises(DataError, match="2 tokens in 1 document are too few"):
        load_corpus(["ab"], tok_without_eot)
    with pytest.raises(DataError, match="at least 2"):
        encode_corpus([Document("a", Origin("x", 1))], tok_without_eot)


def test_many_batches_give_the_same_ids(tok, monkeypatch):
    texts = [f"text {i}" for i in range(50)]
    whole = encode_corpus(read_documents(texts), tok).tokens
    monkeypatch.setattr("subgpt.data.corpus.BATCH_DOCUMENTS", 3)
    monkeypatch.setattr("subgpt.data.corpus.BATCH_CHARS", 10)
    assert (encode_corpus(read_documents(texts), tok).tokens == whole).all()


def test_an_id_beyond_the_vocabulary_is_refused(tok):
    with pytest.raises(DataError, match="id 8364, but its vocabulary has 1000 entries"):
        load_corpus(["a €"], tok)


def test_damage_is_reported(tok, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\xe9b" * 30)
    tok.vocab_size = 70_000
    _, _, summary = load_corpus(tmp_path, tok)
    assert summary.damaged == 1
    assert "U+FFFD" in summary.describe()[2]
