"""A hundred thousand strings drawn to hit every border: the same ids as tiktoken's and `tokenizers`', and back."""

from __future__ import annotations

import random
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
import tokenizers

from subgpt.tokenizer import Tokenizer

COUNT = 100_000

# A character that stands at a border of categories is put into each of these.
PLACES = ["{}", "a{0}b", " {0}{0}", "1{0}1", "'{0}", "\n{0}\r\n", "A{0}'s", "{0}\u0301", "!{0} ", "  {0}  "]

WORDS = """
's 'S 'ſ 't 'T 're 'RE 'rE 've 'vE 'm 'll 'LL 'lL 'd 'D 'l 'x '' ’s 's' n't
12 123 1234 1,234.5 3.14 1e-9 0x1F ٣٤٥٦ ½½½½ 😀 🇩🇪 🇩 👍🏽 1️⃣ क्षि ำ 𝒳 𐐀 𞤀 ǲ ＡＢＣ ﬁ
hello don't HTTPServer naïve camelCase snake_case x=1;//y ://
<|endoftext|> <|endof <|fim_prefix|> <|endofprompt|> <|im_start|> <| |>
"""
ATOMS = [
    *WORDS.split(),
    *"aZéßſİı中ㅎ한ªºʰǅ19½²٣Ⅷ \t\v\f\n\r'!/_-’.,;\0\x1f\x7f\x85\xa0\xad",
    *"\u1680\u2000\u2007\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b\u200c\u200d\u2060\ufeff",
    *"\u0300\u0301\u0327\u0903\u20dd\u0e33\ufe0f\U0001f3fd\U000e0067\U0010ffff\ue000",
    *["  ", "   ", "\r\n", "\n\r", "\r\r\n", "\n\n", " \n", "\n ", "\t\t", "\u3000\u3000", "e\u0301"],
    *[
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        " hello",
        "\u200d\u200d",
    ],
]


def border_characters():
    """The first and the last character of every run of one category, and their neighbours are those of others."""
    runs = []
    before = None
    for code in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(code))
        if category != before:
            runs.append(code)
        before = category
    codes = {*runs, *(code - 1 for code in runs if code), sys.maxunicode}
    return [chr(code) for code in sorted(codes) if not 0xD800 <= code <= 0xDFFF]


@pytest.fixture(scope="module")
def drawn():
    """The strings: a border in each place, some atoms in a row, and random bytes."""
    rng = random.Random(7)
    borders = border_characters()
    texts = [place.format(c) for c in borders for place in rng.sample(PLACES, 6)]
    texts += [rng.randbytes(rng.randrange(1, 60)).decode("utf-8", "replace") for _ in range(10_000)]
    # Half of those letters that follow each other in the bytes of real text, so that characters do come about.
    lead = bytes([*range(0xC2, 0xF5)])
    for _ in range(5_000):
        data = bytes(rng.choice(lead) if rng.random() < 0.4 else rng.randrange(0x80, 0xC0) for _ in range(30))
        texts.append(data.decode("utf-8", "replace"))
    while len(texts) < COUNT:
        parts = rng.choices(ATOMS, k=rng.randrange(1, 16))
        if rng.random() < 0.5:
            parts.insert(rng.randrange(len(parts)), rng.choice(borders))
        texts.append("".join(parts))
    return texts


@pytest.fixture(scope="module")
def known(drawn):
    """The same without characters that the libraries' versions of Unicode may differ about."""
    alike = {c: None for text in drawn for c in text if unicodedata.category(c) in ("Cn", "Co")}
    table = str.maketrans(alike)
    return [text.translate(table) for text in drawn]


def assert_same(ids, offsets, theirs, texts):
    """Every text has the ids that another library gives; those that have not are shown."""
    ends = np.cumsum([0, *map(len, theirs)])
    flat = np.fromiter((i for row in theirs for i in row), np.uint32, int(ends[-1]))
    if np.array_equal(ids, flat) and np.array_equal(offsets.astype(np.int64), ends):
        return
    rows = (ids[int(a) : int(b)].tolist() for a, b in pairwise(offsets))
    wrong = [(text, row, other) for text, row, other in zip(texts, rows, theirs, strict=True) if row != other]
    pytest.fail(f"{len(wrong)} of {len(texts)} differ: {wrong[:3]}")


def rest_of_the_data(shared):
    """Files of the reference data that are no texts, as far as they are one: vocabularies and models."""
    paths = [path for part in ("vocab", "model") for path in sorted((shared / "data" / part).rglob("*.*"))]
    return [path.read_bytes()[:200_000].decode("utf-8", "replace") for path in paths]


def test_tiktokens_ids(pair, drawn, shared):
    theirs, ours = pair
    texts = [*drawn, *rest_of_the_data(shared)]
    assert len(texts) > COUNT
    assert_same(
        *ours.encode_batch(texts, disallowed_special=()),
        [theirs.encode_ordinary(text) for text in texts],
        texts,
    )
    marked = [text for text in texts if "<|" in text]
    allowed = [theirs.encode(text, allowed_special="all") for text in marked]
    assert_same(*ours.encode_batch(marked, allowed_special="all"), allowed, marked)


def test_tiktokens_text_and_places(pair, drawn):
    theirs, ours = pair
    for text in drawn[::29]:
        located = ours.encode_with_offsets(text, disallowed_special=())
        back, starts = theirs.decode_with_offsets(located.ids.tolist())
        assert back == text
        assert located.chars[:, 0].tolist() == starts
        assert ours.decode(located.ids, "strict") == text


def test_tiktokens_bytes_of_random_ids(pair):
    theirs, ours = pair
    specials = theirs._special_tokens.values()
    ids = [*range(theirs.max_token_value - len(specials)), *specials]
    ids = [i for i in ids if ours.id_to_token(i) is not None]
    rng = random.Random(11)
    for _ in range(5_000):
        row = rng.choices(ids, k=rng.randrange(20))
        assert ours.decode_bytes(row) == theirs.decode_bytes(row)
        assert ours.decode(row) == theirs.decode(row)


@pytest.fixture(scope="module", params=["gpt2", "smollm"])
def json_pair(request, shared):
    """A `tokenizer.json` in `tokenizers` and in subgpt."""
    path = shared / "data" / "vocab" / request.param / "tokenizer.json"
    theirs = tokenizers.Tokenizer.from_file(str(path))
    theirs.no_truncation()
    theirs.no_padding()
    return theirs, Tokenizer.load(path)


def test_tokenizers_ids(json_pair, known, shared):
    theirs, ours = json_pair
    texts = [*known, *rest_of_the_data(shared)]
    encoded = [e.ids for e in theirs.encode_batch_fast(texts, add_special_tokens=False)]
    assert_same(*ours.encode_batch(texts, allowed_special="all"), encoded, texts)


def test_tokenizers_text_of_random_ids(json_pair):
    theirs, ours = json_pair
    rng = random.Random(13)
    rows = [rng.choices(range(ours.vocab_size), k=rng.randrange(20)) for _ in range(5_000)]
    texts = theirs.decode_batch(rows, skip_special_tokens=False)
    assert [ours.decode(row) for row in rows] == texts
