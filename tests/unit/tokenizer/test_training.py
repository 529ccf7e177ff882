"""Training: sources, levels, options, and the same result whatever the threads."""

import gzip
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import subgpt
from subgpt.errors import DataError, DtypeError, InvalidValueError, MissingFileError
from subgpt.tokenizer import Tokenizer

TEXT = "the cat sat on the mat, and the rat sat on the cat's hat.\n" * 20


def naive_merges(pieces, merges, reserved=()):
    """The documented rule, word for word."""
    words = {tuple(piece): count for piece, count in Counter(p.encode() for p in pieces).items()}
    tokens = [bytes([b]) for b in range(256)]
    taken = {*tokens, *(name.encode() for name in reserved)}
    for _ in range(merges):
        counts = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                counts[pair] += count
        open_pairs = {p: c for p, c in counts.items() if tokens[p[0]] + tokens[p[1]] not in taken}
        if not open_pairs:
            break
        best = min(open_pairs, key=lambda pair: (-open_pairs[pair], pair))
        new = len(tokens)
        tokens.append(tokens[best[0]] + tokens[best[1]])
        taken.add(tokens[-1])
        merged = Counter()
        for word, count in words.items():
            out, at = [], 0
            while at < len(word):
                if word[at : at + 2] == best:
                    out.append(new)
                    at += 2
                else:
                    out.append(word[at])
                    at += 1
            merged[tuple(out)] += count
        words = merged
    return tokens


def test_merges_follow_the_documented_rule():
    tok = Tokenizer.train([TEXT], vocab_size=300, pattern="gpt2", special_tokens=())
    # Enough of GPT-2's pattern for this text.
    pieces = re.findall(r"'s| ?[a-z]+| ?[^\sa-z]+|\s", TEXT)
    tokens = naive_merges(pieces, 44)
    assert [tok.decode_bytes([i]) for i in range(tok.vocab_size)] == tokens


def test_char_level_has_every_character_in_order():
    tok = Tokenizer.train(["hello\n", "wörld"], level="char")
    entries = [tok.id_to_token(i) for i in range(tok.vocab_size)]
    assert entries == [*sorted(set("hello\nwörld")), "<|endoftext|>", "<unk>"]
    assert (tok.level, tok.unk_id, tok.eot_id) == ("char", len(entries) - 1, len(entries) - 2)
    assert tok.tokens("low\n") == ["l", "o", "w", "\n"]
    assert tok.decode(tok.encode("wörld hello")) == "wörld<unk>hello"


def test_word_level_keeps_the_most_frequent_and_decodes_exactly():
    tok = Tokenizer.train(["a a a b b c. d_1"], level="word", vocab_size=6)
    assert [tok.id_to_token(i) for i in range(6)] == [" ", "a", "b", ".", "<|endoftext|>", "<unk>"]
    full = Tokenizer.train([TEXT], level="word")
    assert full.tokens("the cat's  hat.\n") == ["the", " ", "cat", "'", "s", " ", " ", "hat", ".", "\n"]
    assert full.decode(full.encode(TEXT)) == TEXT


def test_vocab_size_is_kept_or_smaller_where_the_text_gives_no_more():
    assert Tokenizer.train([TEXT], vocab_size=270).vocab_size == 270
    small = Tokenizer.train(["abab"], vocab_size=5000)
    assert small.vocab_size < 300
    assert Tokenizer.train(["ab " * 5], vocab_size=256, special_tokens=()).vocab_size == 256


def test_min_frequency_and_max_token_length():
    often = Tokenizer.train(["ab ab ab xyz"], vocab_size=400, min_frequency=2, special_tokens=())
    assert often.token_to_id("xy") is None
    assert often.token_to_id(" ab") is not None
    short = Tokenizer.train([TEXT], vocab_size=400, max_token_length=2)
    assert max(len(short.decode_bytes([i])) for i in range(short.vocab_size - 1)) == 2
    assert "x" not in Tokenizer.train(["aax"], level="char", min_frequency=2).tokens("ax")


def test_special_tokens_come_last_and_are_not_learned_from():
    text = "one<|endoftext|>two<|user|>one<|endoftext|>two"
    tok = Tokenizer.train([text], level="char", special_tokens=["<|endoftext|>", "<|user|>"])
    assert tok.special_tokens == {"<|endoftext|>": 5, "<|user|>": 6, "<unk>": 7}
    assert tok.token_to_id("|") is None
    clash = Tokenizer.train(["is is"], level="word", special_tokens=["is"])
    assert [clash.id_to_token(i) for i in range(clash.vocab_size)] == [" ", "is", "<unk>"]
    sub = Tokenizer.train(["ab ab ab"], vocab_size=300, special_tokens=["ab"])
    assert sub.special_tokens == {"ab": sub.vocab_size - 1}


def test_files_directories_globs_lists_and_iterables_give_the_same(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + TEXT[:500].encode())
    (tmp_path / "sub" / "b.txt").write_text(TEXT[500:], encoding="utf-8", newline="")
    (tmp_path / ".hidden").write_text("zzz")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0")
    expected = Tokenizer.train([TEXT[:500], TEXT[500:]], vocab_size=300)
    for source in (
        tmp_path,
        str(tmp_path),
        str(tmp_path / "**" / "*.txt"),
        [tmp_path / "sub", tmp_path / "a.txt"],
        iter([TEXT[:500], TEXT[500:]]),
        (part for part in (TEXT[500:], TEXT[:500])),
    ):
        assert Tokenizer.train(source, vocab_size=300) == expected


def test_jsonl_gzip_and_utf16_files_are_read_as_the_data_layer_reads_them(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "abc"}) + "\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"de"))
    (tmp_path / "c.txt").write_text("fg", encoding="utf-16")
    tok = Tokenizer.train(sorted(tmp_path.iterdir()), level="char", special_tokens=())
    assert [tok.id_to_token(i) for i in range(tok.vocab_size)] == [*"abcdefg", "<unk>"]


def test_line_ends_are_kept(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"a\r\nb\n")
    tok = Tokenizer.train(tmp_path / "a.txt", level="char", special_tokens=())
    assert [tok.id_to_token(i) for i in range(4)] == ["\n", "\r", "a", "b"]


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_the_result_does_not_depend_on_threads_or_order(level, threads):
    parts = [f"{TEXT} {i} étude 中文 {i * 7919}" * (i % 5 + 1) for i in range(300)]
    found = set()
    for n in (1, 2, 5):
        subgpt.set_num_threads(n)
        found.add(Tokenizer.train(iter(parts), level=level, vocab_size=600).fingerprint)
        found.add(Tokenizer.train(reversed(parts), level=level, vocab_size=600).fingerprint)
    assert len(found) == 1


def test_big_texts_are_cut_without_a_trace(tmp_path: Path):
    text = "It's 12 o'clock,\n\n and all's well; don't <|endoftext|>\n  worry… 中文字 " * 40_000
    (tmp_path / "big.txt").write_text(text, encoding="utf-8", newline="")
    whole = Tokenizer.train([text], vocab_size=350)
    assert Tokenizer.train(tmp_path / "big.txt", vocab_size=350) == whole
    small = Tokenizer.train([text[: len(text) // 40_000 * 50]], vocab_size=350)
    assert small.fingerprint == whole.fingerprint


def test_any_split_pattern_may_be_trained_with():
    tok = Tokenizer.train([TEXT], vocab_size=300, pattern=r"\w+|\W")
    assert tok.pattern == r"\w+|\W"
    assert " t" not in [tok.id_to_token(i) for i in range(tok.vocab_size)]
    assert Tokenizer.train([TEXT], pattern="cl100k").pattern == "gpt4"


def test_progress_hears_of_bytes_and_merges():
    heard = []
    Tokenizer.train([TEXT], vocab_size=270, progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (13, 13)

    def stop(done, total):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        Tokenizer.train([TEXT], vocab_size=300, progress=stop)


def test_invalid_utf8_is_named_or_replaced(tmp_path: Path):
    path = tmp_path / "bad.txt"
    path.write_bytes(b"good \xff bad")
    with pytest.raises(DataError, match=r"bad\.txt.*0xff at offset 5"):
        Tokenizer.train(path)
    tok = Tokenizer.train(path, level="char", errors="replace")
    assert tok.token_to_id("\ufffd") is not None


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_an_empty_corpus_is_an_error(level, tmp_path: Path):
    (tmp_path / "empty.txt").touch()
    for source in ([], [""], iter([]), tmp_path / "empty.txt", ["<|endoftext|>"]):
        with pytest.raises(DataError, match=r"no .*text|empty") as caught:
            Tokenizer.train(source, level=level)
        assert not isinstance(source, Path) or str(source) in str(caught.value)
    assert Tokenizer.train([" \n"], level=level).vocab_size > 0


def test_an_error_of_many_files_names_the_first_and_counts_the_others(tmp_path: Path):
    said = "corpus: there is no text in it; give files or strings with text to learn from"
    for count, more in ((1, ""), (2, " and 1 more"), (3, " and 2 more")):
        (tmp_path / f"{count}.txt").write_text("")
        with pytest.raises(DataError) as caught:
            Tokenizer.train(sorted(tmp_path.iterdir()))
        assert str(caught.value) == f"{tmp_path / '1.txt'}{more}: {said}"
    (tmp_path / "2.txt").write_bytes(b"ab\xff")
    with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path / '2.txt'))}: "):
        Tokenizer.train(sorted(tmp_path.iterdir()))
    with pytest.raises(DataError, match=f"^{said}$"):
        Tokenizer.train([""])


def test_json_lines_are_read_from_the_field_that_is_named(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"body": "abc"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="text_field"):
        Tokenizer.train(path, level="char")
    tok = Tokenizer.train(path, level="char", text_field="body", special_tokens=())
    assert tok.tokens("cab") == ["c", "a", "b"]
    with pytest.raises(DtypeError, match="text_field"):
        Tokenizer.train(path, text_field=3)


def test_missing_files_are_named(tmp_path: Path):
    for source in (tmp_path / "nope.txt", str(tmp_path / "*.nope")):
        with pytest.raises(MissingFileError, match="nope"):
            Tokenizer.train(source)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vocab_size": 256}, "256.*257"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"vocab_size": -5}, "vocab_size is -5"),
        ({"vocab_size": 2**33}, "32 bits"),
        ({"vocab_size": 2**70}, "vocab_size"),
        ({"level": "char", "vocab_size": 4}, "vocab_size is 4.*5 different characters"),
        ({"level": "word", "vocab_size": 2}, "vocab_size is 2"),
        ({"level": "letter"}, "letter"),
        ({"pattern": "gpt5"}, "gpt5"),
        ({"special_tokens": ["<a>", "<a>"]}, "twice"),
        ({"special_tokens": [""]}, "empty"),
        ({"special_tokens": ["\n"]}, r'"\\n" is a single byte, which is an entry already; use a longer name'),
        ({"errors": "ignore"}, "ignore"),
        ({"min_frequency": -1}, "min_frequency is -1"),
        ({"max_token_length": 0}, "max_token_length is 0"),
    ],
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(InvalidValueError, match=words):
        Tokenizer.train(["abcde"], **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"vocab_size": 300.0}, "vocab_size must be int or a list of int, not float"),
        ({"vocab_size": True}, "vocab_size must be int, not bool"),
        ({"vocab_size": "300"}, "vocab_size must be int or a list of int, not str"),
        ({"vocab_size": [300, "x"]}, "vocab_size must be int, not str"),
        (
            {"special_tokens": "<|endoftext|>"},
            "special_tokens must be an iterable of str, not str ('<|endoftext|>')",
        ),
        ({"special_tokens": [b"x"]}, "special_tokens[0] must be str, not bytes"),
        ({"special_tokens": 3}, "special_tokens must be an iterable of str, not int (3)"),
        ({"level": None}, "level must be str, not NoneType"),
        ({"pattern": 3}, "pattern must be str, not int"),
        ({"min_frequency": 1.5}, "min_frequency must be int, not float"),
        ({"max_token_length": "a"}, "max_token_length must be int, not str"),
        ({"limit_alphabet": "a"}, "limit_alphabet must be int, not str"),
        ({"max_memory": "1 GB"}, "max_memory must be int, not str"),
        ({"text_field": 3}, "text_field must be str, not int"),
    ],
)
def test_options_of_the_wrong_type(options, said):
    with pytest.raises(DtypeError) as caught:
        Tokenizer.train(["abcde"], **options)
    assert str(caught.value) == said


@pytest.mark.parametrize("name", ["max_token_length", "limit_alphabet", "max_memory"])
def test_limits_are_of_one_at_least(name):
    with pytest.raises(InvalidValueError, match=rf"^{name} is 0; it must be between 1 and"):
        Tokenizer.train(["abcde"], **{name: 0})


def test_the_smallest_limits_are_kept_to():
    one = Tokenizer.train(["aaabbc"], level="char", limit_alphabet=1, special_tokens=(), min_frequency=0)
    assert [one.id_to_token(id) for id in range(one.vocab_size)] == ["a", "<unk>"]
    assert Tokenizer.train(["aaaa"], max_token_length=1).vocab_size == 257
    with pytest.raises(InvalidValueError, match=r"max_memory is 1; at least 16777216 bytes"):
        Tokenizer.train(["a"], max_memory=1)
    with pytest.raises(InvalidValueError, match=r"^vocab_size is 0; it must be between 1 and"):
        Tokenizer.train(["a"], vocab_size=[300, 0])
    with pytest.raises(InvalidValueError, match=r"^vocab_size is an empty list; name at least one size$"):
        Tokenizer.train(["a"], vocab_size=[])


def test_iterables_that_go_wrong():
    def raising():
        yield "text"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        Tokenizer.train(raising())
    for bad in ([b"bytes"], ["a", None], [3], iter(["ok", 1.5])):
        with pytest.raises((DtypeError, DataError), match="str"):
            Tokenizer.train(bad)
    for bad in (None, 3, b"text", {"a": 1}):
        with pytest.raises((DtypeError, DataError), match="str"):
            Tokenizer.train(bad)


def test_several_sizes_are_those_trained_one_by_one():
    sizes = [275, 260, 270]
    together = Tokenizer.train([TEXT], vocab_size=sizes)
    assert [len(tok) for tok in together] == sizes
    assert together == [Tokenizer.train([TEXT], vocab_size=size) for size in sizes]
    words = Tokenizer.train([TEXT], vocab_size=[5, 9], level="word")
    assert words == [Tokenizer.train([TEXT], vocab_size=size, level="word") for size in (5, 9)]
    assert isinstance(Tokenizer.train([TEXT], vocab_size=[300]), list)
    with pytest.raises(InvalidValueError, match="one vocabulary"):
        Tokenizer.train([TEXT], vocab_size=[300, 400], level="char")
    with pytest.raises(InvalidValueError, match="empty list"):
        Tokenizer.train([TEXT], vocab_size=[])
    with pytest.raises(InvalidValueError, match="257 or more"):
        Tokenizer.train([TEXT], vocab_size=[300, 200])
    for wrong in ("300", ["300"], 3.5):
        with pytest.raises(DtypeError):
            Tokenizer.train([TEXT], vocab_size=wrong)


def test_a_limited_alphabet_keeps_the_most_frequent_characters():
    text = "aaa bb c dddd\n"
    tok = Tokenizer.train([text], level="char", limit_alphabet=3, special_tokens=())
    assert tok.tokens("abcd") == ["a", "<unk>", "<unk>", "d"]
    words = Tokenizer.train([text * 3], level="word", limit_alphabet=3)
    assert words.tokens("dddd c") == ["dddd", " ", "<unk>"]
    with pytest.raises(InvalidValueError, match="leave it out"):
        Tokenizer.train([text], limit_alphabet=3)


def test_a_memory_limit_changes_nothing_while_it_is_enough(tmp_path):
    lines = [f"{i * 7919 % 100_003:x} {i % 97}" for i in range(60_000)]
    for i in range(4):
        (tmp_path / f"{i}.txt").write_text("\n".join(lines[i::4]))
    free = Tokenizer.train(tmp_path, vocab_size=2000)
    assert Tokenizer.train(tmp_path, vocab_size=2000, max_memory=64 << 20) == free
    for least in (1, 1000):
        with pytest.raises(InvalidValueError, match=rf"max_memory is {least}; at least .*16 MiB"):
            Tokenizer.train(tmp_path, max_memory=least)


def test_what_does_not_fit_is_left_out_with_a_warning_and_independent_of_threads():
    letters = str.maketrans("0123456789", "ghijklmnop")
    words = [f"{i * 7919:x}{i % 1009:x}".translate(letters) for i in range(120_000)]
    texts = [" ".join(words[k::3]) for k in range(3)]
    made = []
    for threads in (1, 2):
        before = subgpt.get_num_threads()
        subgpt.set_num_threads(threads)
        try:
            with pytest.warns(UserWarning, match="max_memory is too little for all distinct pieces"):
                made.append(Tokenizer.train(texts, vocab_size=400, max_memory=16 << 20))
        finally:
            subgpt.set_num_threads(before)
    assert made[0] == made[1]
