"""What holds for any text: round trips, totality, determinism."""

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt.tokenizer import Tokenizer

CORPUS = ["The cat's hat, 12 naïve cats. 中文 字\r\n\n  don't!! 😀 " * 3]
ATOMS = [
    *"aZé中ſª19½ \n\r\t'!/_-",
    "\u0301",
    "\u200d",
    "😀",
    "'s",
    "'LL",
    "  ",
    "cat",
    " hat",
    "<|endoftext|>",
    "<unk>",
]
TEXT = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(ATOMS), max_size=30).map("".join))


@pytest.fixture(scope="module", params=["gpt2", "gpt4", "o200k"])
def sub(request):
    return Tokenizer.train(CORPUS, vocab_size=310, pattern=request.param)


@pytest.fixture(scope="module", params=["char", "word", "subword"])
def tok(request):
    return Tokenizer.train(CORPUS, level=request.param)


@given(text=TEXT)
def test_any_text_survives_subwords(sub, text):
    ids = sub.encode_ordinary(text)
    assert sub.decode(ids, errors="strict") == text
    assert sub.decode(sub.encode(text, allowed_special="all")) == text
    assert (sub.encode(text, disallowed_special=()) == ids).all()


@given(text=st.text(st.sampled_from(sorted(set(CORPUS[0]))), max_size=60))
def test_known_characters_survive_the_character_level(text):
    tok = Tokenizer.train(CORPUS, level="char")
    ids = tok.encode(text)
    assert len(ids) == len(text)
    assert tok.decode(ids) == text


@given(
    words=st.lists(
        st.sampled_from(["cat", "The", "'", "s", " ", ",", "12", "\r", "\n", "中文", "😀"]), max_size=30
    )
)
def test_known_words_survive_the_word_level(words):
    tok = Tokenizer.train([" ".join([*CORPUS, "\n".join(words), "".join(words)])], level="word")
    text = "".join(words)
    assert tok.decode(tok.encode(text)) == text


@given(text=TEXT)
def test_the_same_text_gives_the_same_ids(tok, text):
    ids = tok.encode(text, allowed_special="all").tolist()
    assert all(i < tok.vocab_size for i in ids)
    assert tok.encode(text, allowed_special="all").tolist() == ids
    same = pickle.loads(pickle.dumps(tok))
    assert same.encode(text, allowed_special="all").tolist() == ids
    assert tok.tokens(text, allowed_special="all") == [tok.id_to_token(i) for i in ids]


@given(data=st.data())
def test_any_ids_decode(tok, data):
    ids = data.draw(st.lists(st.integers(0, tok.vocab_size - 1), max_size=50))
    whole = tok.decode_bytes(ids)
    assert tok.decode(ids) == whole.decode("utf-8", "replace")
    assert b"".join(tok.decode_bytes([i]) for i in ids) == whole
    stream = tok.decode_stream()
    assert "".join(stream.push(i) for i in ids) + stream.flush() == tok.decode(ids)


@given(texts=st.lists(TEXT, max_size=8))
def test_batches_are_their_texts(tok, texts):
    ids, offsets = tok.encode_batch(texts, disallowed_special=())
    rows = [ids[int(a) : int(b)].tolist() for a, b in pairwise(offsets)]
    assert rows == [tok.encode_ordinary(text).tolist() for text in texts]


@given(texts=st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=10), size=st.integers(257, 330))
def test_training_takes_any_text(texts, size):
    special = ["<|endoftext|>"]
    sub = Tokenizer.train(iter(texts), vocab_size=size, special_tokens=special)
    assert 257 <= sub.vocab_size <= size
    entries = [sub.decode_bytes([i]) for i in range(sub.vocab_size)]
    assert len(set(entries)) == len(entries)
    assert all(sub.decode(sub.encode_ordinary(text)) == text for text in texts)
    assert Tokenizer.from_json(sub.to_json()) == sub
    chars = Tokenizer.train(iter(texts), level="char", special_tokens=special)
    assert all(chars.decode(chars.encode(t, allowed_special="all")) == t for t in texts)
