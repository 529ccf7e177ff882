"""Hostile files and hostile text: an error that names the fault, or the right answer in seconds."""

import base64
import copy
import json
import random
import time
from pathlib import Path

import pytest

from subgpt.errors import SubgptError, TokenizerError
from subgpt.tokenizer import Tokenizer

GOOD = json.loads(Tokenizer.train(["the cat sat on the mat"], vocab_size=270).to_json())
CHARS = json.loads(Tokenizer.train(["abc"], level="char").to_json())
BYTES = [bytes([b]) for b in range(256)]


def changed(path, value, base=GOOD):
    """The JSON of a good file with one thing changed; `...` removes it."""
    file = copy.deepcopy(base)
    *way, last = path
    place = file
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(file)


def test_the_unchanged_file_is_fine():
    assert Tokenizer.from_json(json.dumps(GOOD)).vocab_size == 269
    assert Tokenizer.from_json(json.dumps(CHARS)).vocab_size == 5


SPLIT = {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": False}
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def several(role, *kinds):
    return {"type": "Sequence", role: [{"type": kind} for kind in kinds]}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("model",), ..., "model"),
        (("model",), None, "Model"),
        (("model", "type"), "Unigram", "Unigram"),
        (("model", "type"), "WordPiece", "WordPiece"),
        (("model", "type"), "", "not implemented"),
        (("model", "vocab"), ..., "vocab"),
        (("model", "vocab"), [["a", 1.5]], "list"),
        (("model", "vocab"), {"a": -1}, "invalid value"),
        (("model", "vocab"), {"a": 2**32}, "invalid value"),
        (("model", "vocab"), {"a": 1.5}, "invalid type"),
        (("model", "vocab"), {"a": "1"}, "invalid type"),
        (("model", "vocab"), {"a": 2**32 - 1}, "far beyond|no id"),
        (("model", "vocab"), {}, "needs the token"),
        (("model", "vocab", "b"), 0, "id 0|has id"),
        (("model", "vocab", "zz top"), 300, "stands for no byte"),
        (("model", "vocab", ""), 300, "empty token"),
        (("model", "vocab", "<|endoftext|>"), 5000, r"268|5000"),
        (("model", "merges"), ["a"], "not a merge"),
        (("model", "merges"), ["a b c"], "not a merge"),
        (("model", "merges"), [["", "a"]], "not a merge"),
        (("model", "merges"), [["q", "zzz"]], "needs the token"),
        (("model", "merges"), [["q", "z"]], "needs the token"),
        (("model", "merges"), [["a", "b", "c"]], "match"),
        (("model", "merges"), {"a": 1}, "invalid type"),
        (("model", "merges"), [3], "match"),
        (("model", "dropout"), 0.5, "dropout"),
        (("model", "unk_token"), "<unk>", "unk_token"),
        (("model", "continuing_subword_prefix"), "##", "continuing_subword_prefix"),
        (("model", "end_of_word_suffix"), "</w>", "end_of_word_suffix"),
        (("model", "brand_new"), 1, "brand_new"),
        (("brand_new",), 1, "brand_new"),
        (("normalizer",), {"type": "Precompiled"}, "Precompiled"),
        (("normalizer",), several("normalizers", "NFC", "Nmt"), "Nmt"),
        (("normalizer",), {"type": "Replace", "pattern": {"String": "a"}}, "Replace"),
        (("post_processor",), {"type": "TemplateProcessing"}, "TemplateProcessing"),
        (
            ("post_processor",),
            several("processors", "BertProcessing"),
            "BertProcessing",
        ),
        (("post_processor",), {"type": "Sequence"}, "Sequence"),
        (("decoder",), {"type": "CTC"}, "CTC"),
        (("decoder",), {"type": "Metaspace", "replacement": "ab"}, "Metaspace"),
        (
            ("decoder",),
            several("decoders", "Strip", "ByteLevel"),
            "Strip",
        ),
        (("pre_tokenizer",), {"type": "UnicodeScripts"}, "UnicodeScripts"),
        (("pre_tokenizer",), {"type": "Metaspace"}, "Metaspace"),
        (("pre_tokenizer",), {"type": "Sequence", "pretokenizers": 3}, "Sequence"),
        (
            ("pre_tokenizer",),
            sequence({**SPLIT, "behavior": "Sideways"}),
            "Sideways",
        ),
        (
            ("pre_tokenizer",),
            sequence({**SPLIT, "pattern": {"Glob": "*"}}),
            "Glob",
        ),
        (
            ("pre_tokenizer",),
            sequence({**SPLIT, "pattern": {"Regex": "["}}),
            "cannot be",
        ),
        (("pre_tokenizer",), {**LEVEL, "use_regex": "yes"}, "ByteLevel"),
        (("pre_tokenizer",), "ByteLevel", "ByteLevel"),
        (("pre_tokenizer",), [1, 2], "not implemented"),
        (("added_tokens",), {"a": 1}, "invalid type"),
        (("added_tokens", 0, "id"), -1, "invalid value"),
        (("added_tokens", 0, "id"), 0, "has id"),
        (("added_tokens", 0, "content"), "", "empty"),
        (("added_tokens", 0, "lstrip"), 1, "invalid type"),
        (("added_tokens", 0, "special"), "yes", "invalid type"),
        (("added_tokens", 0, "weird"), 1, "weird"),
        (("added_tokens",), GOOD["added_tokens"] * 2, "twice"),
    ],
)
def test_what_is_wrong_is_named(path, value, words):
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.from_json(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("model", "unk_token"), "nope", "nope"),
        (("model", "vocab"), ["a"], "list"),
        (("model", "vocab", "b"), 0, "id 0"),
        (("decoder",), {"type": "WordPiece"}, "WordPiece"),
        (("pre_tokenizer",), {"type": "UnicodeScripts"}, "UnicodeScripts"),
        (("normalizer",), {"type": "BertNormalizer"}, "BertNormalizer"),
    ],
)
def test_word_level_files_too(path, value, words):
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.from_json(changed(path, value, CHARS))


def test_duplicate_tokens_are_seen():
    text = json.dumps(GOOD).replace('"vocab": {', '"vocab": {"a": 999, ', 1)
    with pytest.raises(TokenizerError, match=r"'a'|\"a\"|two ids"):
        Tokenizer.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "3",
        '"text"',
        "\0",
        "\ufeff{}",
        "[" * 10_000,
        '{"model":' * 10_000,
        '{"pre_tokenizer":' + '{"type":"Sequence","pretokenizers":[' * 10_000,
        "<html>",
        "version https://git-lfs.github.com/spec/v1",
    ],
)
def test_what_is_no_tokenizer_json(text, tmp_path: Path):
    with pytest.raises(TokenizerError):
        Tokenizer.from_json(text)
    path = tmp_path / "tokenizer.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.load(path)


def test_truncated_and_damaged_files(tmp_path: Path):
    data = json.dumps(GOOD).encode()
    rng = random.Random(3)
    path = tmp_path / "tokenizer.json"
    for cut in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:cut])
        with pytest.raises(TokenizerError):
            Tokenizer.load(path)
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            tok = Tokenizer.load(path)
        except SubgptError:
            continue
        tok.decode(tok.encode_ordinary("the cat"))


def test_special_files_are_refused(tmp_path: Path):
    import os

    (tmp_path / "d.json").mkdir()
    with pytest.raises(SubgptError):
        Tokenizer.load(tmp_path / "d.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(SubgptError, match="regular file"):
        Tokenizer.load(tmp_path / "pipe.json")


def lines(tokens):
    return [base64.b64encode(t) + b" %d" % i for i, t in enumerate(tokens)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no ranks"),
        (b"\n\n", "no ranks"),
        (b"!!!! 0", "base64"),
        (b"YQ 0", "base64"),
        (b"YQ==", "two fields"),
        (b"YQ== x", "'x'|\"x\""),
        (b"YQ== -1", "-1"),
        (b"YQ== 99999999999", "99999999999"),
        (b"YQ== 4294967295", "far beyond"),
        (b"YQ== 1 2", "two fields"),
        (b"\xff\xfe\x00", "two fields"),
        (b"\n".join(lines(BYTES[1:])), "0x00"),
        (b"\n".join([*lines(BYTES), b"YQ== 300"]), "two ids"),
        (b"\n".join([*lines(BYTES), b"YWI= 5"]), "id 5"),
        (b"\n".join(lines(BYTES)) + b"\n=", "line 257"),
    ],
)
def test_rank_files(content, words, tmp_path: Path):
    path = tmp_path / "x.tiktoken"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.load(path, pattern="gpt2")


def test_rank_files_with_gaps_and_crlf_are_fine(tmp_path: Path):
    path = tmp_path / "x.tiktoken"
    path.write_bytes(b"\r\n".join([*lines(BYTES), b"YWI= 300", b""]))
    tok = Tokenizer.load(path, pattern="gpt2")
    assert (tok.vocab_size, tok.encode("ab").tolist(), tok.id_to_token(299)) == (301, [300], None)


@pytest.mark.parametrize(
    ("vocab", "merges", "words"),
    [
        ("{", "", "vocabulary"),
        ("[]", "", "list"),
        ('{"a": 0, "a": 1}', "", "two ids"),
        ('{"a": 0}', "a b", "needs the token"),
        ('{"a": 0, "b": 1}', "a b", '"ab"'),
        ('{"a": 0}', "a", "line 1"),
        ('{"a": 0}', "#version\na  a", "line 2"),
    ],
)
def test_vocabulary_and_merges(vocab, merges, words, tmp_path: Path):
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.load(tmp_path)


def test_cyclic_and_disordered_merges_end():
    merges = [["a", "b"], ["ab", "ab"], ["b", "a"], ["ab", "a"], ["a", "ba"]]
    vocab = {token: i for i, token in enumerate(["a", "b", "abab", "ba", "aba", "ab"])}
    file = copy.deepcopy(GOOD)
    file["model"] |= {"merges": merges, "vocab": vocab}
    file["added_tokens"] = []
    tok = Tokenizer.from_json(json.dumps(file))
    assert tok.decode(tok.encode("ab" * 10_001 + "a")) == "ab" * 10_001 + "a"
    assert tok.decode(tok.encode("x")) == ""
    with pytest.raises(TokenizerError, match=r"'x'|\"x\""):
        tok.encode("x", errors="strict")


def test_split_patterns_that_explode_end_in_an_error():
    split = {**SPLIT, "pattern": {"Regex": r"(?:(?=a)a|a)+b"}}
    tok = Tokenizer.from_json(changed(("pre_tokenizer",), sequence(split, LEVEL)))
    with pytest.raises(TokenizerError, match="given up"):
        tok.encode("a" * 100)
    for regex in ("(" * 10_000, "a{99999999}{99999999}", "(?:" * 300 + ")*" * 300):
        bad = {**SPLIT, "pattern": {"Regex": regex}}
        with pytest.raises(TokenizerError):
            Tokenizer.from_json(changed(("pre_tokenizer",), sequence(bad, LEVEL)))


REPEATED = ["a", " ", "^", "😀", "\n", "0", "\u0301", "\u200d", "aA", "中", "'", " \n", "<", "<|endoftext|"]


@pytest.mark.parametrize("text", REPEATED)
def test_a_million_repeats(text, shared):
    long = text * 1_000_000
    start = time.perf_counter()
    for name in ("r50k", "o200k"):
        tok = Tokenizer.load(shared / "data" / "vocab" / "tiktoken" / f"{name}_base.tiktoken")
        assert tok.decode(tok.encode(long)) == long
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize("text", REPEATED)
def test_training_on_a_million_repeats(text, tmp_path: Path):
    (tmp_path / "long.txt").write_text(text * 1_000_000, encoding="utf-8", newline="")
    for level in ("subword", "word", "char"):
        tok = Tokenizer.train(tmp_path / "long.txt", level=level, vocab_size=400)
        # Letters without end are one word, known at its full length alone.
        sample = text * (1_000_000 if level == "word" else 1000)
        assert tok.decode(tok.encode(sample, disallowed_special=())) == sample


def test_a_long_line_without_any_place_to_cut():
    rng = random.Random(1)
    text = "".join(rng.choice("ACGT") for _ in range(2_000_000))
    tok = Tokenizer.train([text], vocab_size=1000)
    assert tok.vocab_size == 1000
    assert tok.decode(tok.encode(text)) == text


def test_random_bytes_as_text():
    rng = random.Random(2)
    tok = Tokenizer.train(["text"], vocab_size=260)
    for _ in range(200):
        text = rng.randbytes(rng.randrange(300)).decode("utf-8", "replace")
        assert tok.decode(tok.encode(text)) == text


def test_thousands_of_special_tokens():
    names = [f"<|special {i}|>" for i in range(3000)]
    tok = Tokenizer.train(["some text <|special 7|> and more"], vocab_size=3300, special_tokens=names)
    ids = tok.encode("".join(names), allowed_special="all")
    assert ids.tolist() == list(tok.special_tokens.values())
    assert tok.encode("<|special" * 100_000, allowed_special="all").size > 0
    assert Tokenizer.from_json(tok.to_json()) == tok


def test_a_file_of_4_gb_is_refused_by_its_size(tmp_path: Path):
    for name in ("tokenizer.json", "ranks.tiktoken", "tokenizer.model"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(4 << 30)  # holes, which take no room
        with pytest.raises(TokenizerError, match="larger than 1 GB"):
            Tokenizer.load(tmp_path / name, **({"pattern": "gpt4"} if "ranks" in name else {}))
        (tmp_path / name).unlink()
