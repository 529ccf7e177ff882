"""Statistics are what counting by hand gives."""

from base64 import b64encode
from collections import Counter
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from subgpt import DataError, InvalidValueError, Tokenizer
from subgpt.tokenizer import statistics as module
from subgpt.tokenizer.statistics import statistics, word_parts

TEXTS = [
    "walking and talking, the walker walked; naïve 漢字 🙂 unwalked roads. " * 5,
    "A talker talks.\n\n\tTwo  spaces.",
]


@pytest.mark.parametrize(("level", "size"), [("subword", 300), ("word", 12), ("char", None)])
def test_the_figures_are_those_of_a_count_by_hand(level, size) -> None:
    tok = Tokenizer.train(TEXTS[:1], level=level, vocab_size=size)
    seen = statistics(tok, TEXTS, most=1000)
    ids = [int(id) for text in TEXTS for id in tok.encode_ordinary(text)]
    uses = Counter(ids)
    special = set(tok.special_tokens.values())
    raw = {id: tok.decode_bytes([id]) for id in range(len(tok)) if id not in special}
    assert seen.tokens == len(ids)
    assert seen.bytes == sum(len(text.encode()) for text in TEXTS)
    assert seen.characters == sum(map(len, TEXTS))
    assert seen.single_bytes == sum(len(raw.get(id, b"")) == 1 for id in ids)
    assert seen.unknown == (0 if tok.unk_id is None else uses[tok.unk_id])
    assert seen.dead.tolist() == [id for id in raw if not uses[id]]
    assert seen.bytes_per_token == seen.bytes / len(ids)
    assert seen.characters_per_token == seen.characters / len(ids)
    assert seen.single_byte_share == seen.single_bytes / len(ids)
    by_length = sorted(raw, key=lambda id: -len(raw[id]))
    assert [(e.id, e.bytes, e.uses) for e in seen.longest] == [(id, raw[id], uses[id]) for id in by_length]


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tok = Tokenizer.train(TEXTS, vocab_size=300)
    seen: list[tuple[int, int]] = []
    whole = statistics(tok, TEXTS)
    monkeypatch.setattr(module, "_BATCH", 10)
    apart = statistics(tok, TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(len(TEXTS[0].encode()), 0), (whole.bytes, 0)]
    assert (apart.tokens, apart.bytes, apart.dead.tolist()) == (
        whole.tokens,
        whole.bytes,
        whole.dead.tolist(),
    )


def test_the_longest_are_as_many_as_are_asked_for() -> None:
    tok = Tokenizer.train(TEXTS, vocab_size=300)
    seen = statistics(tok, TEXTS, most=3)
    assert len(seen.longest) == 3
    assert statistics(tok, TEXTS, most=0).longest == ()
    with pytest.raises(InvalidValueError, match="most"):
        statistics(tok, TEXTS, most=-1)


def test_parts_of_words() -> None:
    entries = [b" walk", b" Walks", b" walked", b" unwalk", b" talk", b" talked", b"ed", b" \xc3", b" walk2"]
    parts = word_parts(entries)
    assert parts.suffixes == {"s": ["walk+s"], "ed": ["walk+ed", "talk+ed"]}
    assert parts.prefixes == {"un": ["un+walk"]}
    assert parts.roots == {"walk": ["walk+ed", "walk+s", "un+walk"], "talk": ["talk+ed"]}


def test_what_is_rarely_put_to_a_word_makes_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMON", 1)
    parts = word_parts([b" walk", b" talk", b" walks", b" talks", b" walkzz"])
    assert parts.suffixes == {"s": ["walk+s", "talk+s"], "zz": ["walk+zz"]}
    assert parts.roots == {"walk": ["walk+s"], "talk": ["talk+s"]}


def test_words_that_the_text_does_not_use_are_left_out() -> None:
    tok = Tokenizer.train(["walk walked talk talked"], level="word")
    assert [part.examples for part in statistics(tok, ["walk walked talk"]).suffixes] == [("walk+ed",)]


def test_where_no_entry_begins_with_a_space_all_are_words() -> None:
    assert word_parts([b"walk", b"walked", b" "]).suffixes == {"ed": ["walk+ed"]}


def test_the_commonest_parts_come_first() -> None:
    words = "walk talk jump walks talks jumps walked"
    tok = Tokenizer.train([words], level="word")
    seen = statistics(tok, [words])
    assert [(part.text, part.words) for part in seen.suffixes] == [("s", 3), ("ed", 1)]
    assert seen.roots[0].text == "walk"
    assert sorted(seen.roots[0].examples) == ["walk+ed", "walk+s"]


def test_gaps_are_no_entries(tmp_path: Path) -> None:
    ranks = b"\n".join(b64encode(bytes([i])) + b" %d" % i for i in range(256))
    (tmp_path / "gap.tiktoken").write_bytes(ranks)
    tok = Tokenizer.load(tmp_path / "gap.tiktoken", pattern="gpt2", special_tokens={"<|end|>": 300})
    assert len(tok) == 301
    seen = statistics(tok, ["a"])
    assert np.array_equal(seen.dead, [i for i in range(256) if i != ord("a")])


def test_no_text_is_an_error_and_no_tokens_have_no_rate() -> None:
    tok = Tokenizer.train(["a"], vocab_size=257)
    with pytest.raises(DataError):
        statistics(tok, [""])
    nothing = module.Statistics(1, 0, 0, 0, 0, 0, np.zeros(0, np.int64), (), (), (), ())
    assert all(map(isnan, (nothing.bytes_per_token, nothing.characters_per_token, nothing.single_byte_share)))


def test_entries_keep_the_space_that_a_tokenizer_leaves_out_at_the_beginning(shared: Path) -> None:
    tok = Tokenizer.load(shared / "data" / "model" / "tok512.model")
    seen = statistics(tok, ["One day"], most=1000)
    texts = {entry.bytes for entry in seen.longest}
    assert b" day" in texts
    assert b" little" in texts
