"""Hostile tokenizer files of every format: an error that names file and fault, or ids that decode, and no more memory.

Each file is loaded whole, cut off at every byte, and with bytes changed at random.
"""

from __future__ import annotations

import json
import random
import resource
import struct
from pathlib import Path

import pytest

from subgpt.errors import SubgptError, TokenizerError
from subgpt.tokenizer import Tokenizer

# --- SentencePiece's .model, written by hand -------------------------------------------------------------------------


def varint(number):
    data = b""
    while number > 0x7F:
        data, number = data + bytes([number & 0x7F | 0x80]), number >> 7
    return data + bytes([number])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def piece(text, score=0.0, kind=1):
    text = text if isinstance(text, bytes) else text.encode()
    return field(1, field(1, text) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind))


def number(at, value):
    return varint(at << 3) + varint(value)


HEAD = [piece("<unk>", kind=2), piece("<s>", kind=3), piece("</s>", kind=3)]
TEXT = [piece("▁", -3), piece("a", -4), piece("b", -5), piece("▁a", -1), piece("ab", -2)]
BPE = field(2, number(3, 2))
PLAIN = field(3, number(3, 1) + number(4, 0) + number(5, 1))
MODEL = b"".join([*HEAD, *TEXT, BPE, PLAIN])


def charsmap(blob):
    return b"".join([*HEAD, *TEXT, BPE, field(3, field(2, blob))])


def load(tmp_path: Path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return Tokenizer.load(path)


def fault(tmp_path, name, data):
    """What is wrong with a file; nothing if it works."""
    try:
        use(load(tmp_path, name, data))
    except SubgptError as error:
        return str(error)
    return ""


def use(tok):
    """Whatever was loaded has to work."""
    for text in ("", "a ab b", "né😀<s>", " " * 50, "x" * 1000):
        try:
            ids = tok.encode(text, allowed_special="all")
        except TokenizerError:
            continue
        assert isinstance(tok.decode(ids), str)
        tok.encode_with_offsets(text, allowed_special="all")
    tok.decode(list(range(min(tok.vocab_size, 500))))


def test_the_model_is_fine(tmp_path):
    tok = load(tmp_path, "x.model", MODEL)
    assert tok.encode("a ab").tolist() == [6, 6, 5]
    assert tok.decode(tok.encode("a ab")) == "a ab"
    assert Tokenizer.from_json(tok.to_json()) == tok


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no pieces"),
        (b"\0", "cannot be read"),
        (b"\xff" * 20, "cannot be read"),
        (b"\x0a" + varint(10 * 2**30), "cannot be read"),
        (b"\x0a" + varint(2**64 - 1), "cannot be read"),
        (field(1, b"\x0a" + varint(10 * 2**30)), "piece 0"),
        (BPE, "no pieces"),
        (b"".join([*HEAD, *TEXT]), "Unigram.*--model_type=bpe"),
        (b"".join([*HEAD, field(2, number(3, 4))]), "Char"),
        (b"".join([*HEAD, field(2, number(3, 99))]), "99"),
        (b"".join([*HEAD, field(2, number(3, 2) + number(24, 1))]), "treat_whitespace_as_suffix"),
        (MODEL + piece(""), "piece 8.*empty"),
        (MODEL + piece("\0"), "piece 8.*zero byte"),
        (MODEL + piece(b"\xff"), "piece 8.*UTF-8"),
        (MODEL + piece(b"\xed\xa0\x80"), "piece 8.*UTF-8"),
        (MODEL + piece("c", float("nan")), "piece 8.*score"),
        (MODEL + piece("a"), '"a".*two ids'),
        (MODEL + piece("a", kind=3), '"a".*two ids'),
        (MODEL + piece("c", kind=5), "UNUSED"),
        (MODEL + piece("c", kind=77), "piece 8.*type"),
        (MODEL + piece("<0x-1>", kind=6), "piece 8.*byte"),
        (MODEL + piece("<0xZZ>", kind=6), "piece 8.*byte"),
        (MODEL + piece("<0x+1>", kind=6), "piece 8.*byte"),
        (MODEL + number(1, 5), "field 1"),
        (MODEL + number(5, 1), "field 5"),
        (MODEL + field(5, b"\xff"), "denormalizer_spec cannot be read"),
        (MODEL + field(5, field(2, b"x")), r"denormalizer_spec.*not implemented"),
        (charsmap(b"\1"), "charsmap"),
        (charsmap(struct.pack("<I", 2**32 - 4) + b"\0" * 64), "charsmap.*4294967292"),
        (charsmap(struct.pack("<I", 3) + b"\0" * 64), "charsmap"),
        (charsmap(struct.pack("<I", 4) + b"\0" * 4 + b"\xff"), "charsmap.*UTF-8"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(data, words, tmp_path):
    with pytest.raises(TokenizerError, match=words) as error:
        load(tmp_path, "x.model", data)
    assert "x.model" in str(error.value)


def test_a_denormalizer_that_changes_nothing_is_fine(tmp_path):
    # trainers write one, with a name at most
    tok = load(tmp_path, "x.model", MODEL + field(5, field(1, b"identity") + field(2, b"") + number(3, 0)))
    assert tok.decode(tok.encode("a ab")) == "a ab"


def test_wild_tries_lead_nowhere(tmp_path):
    rng = random.Random(1)
    for _ in range(200):
        units = rng.randbytes(4 * rng.randrange(0, 300))
        use(load(tmp_path, "x.model", charsmap(struct.pack("<I", len(units)) + units + b"abc\0d\0")))


def test_a_piece_of_a_megabyte(tmp_path):
    tok = load(tmp_path, "x.model", MODEL + piece("a" * 2**20, -9))
    use(tok)
    assert tok.encode("a" * 2**20).size > 1


def test_infinite_and_equal_scores_end(tmp_path):
    more = [piece("ba", float("inf")), piece("aa", float("-inf")), piece("bb", -1), piece("aaa", -1)]
    use(load(tmp_path, "x.model", MODEL + b"".join(more)))


# --- llama2.c's tokenizer.bin ----------------------------------------------------------------------------------------


def entry(text, score=0.0, length=None):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<fi", score, len(text) if length is None else length) + text


BYTES = [entry(f"<0x{b:02X}>") for b in range(256)]
START = struct.pack("<i", 16)
BIN_HEAD = [START, entry("<unk>"), entry("\n<s>\n"), entry("\n</s>\n"), *BYTES]
BIN = b"".join([*BIN_HEAD, entry(" ", -3), entry("a", -4), entry("b", -5), entry(" a", -1), entry("ab", -2)])


def test_the_bin_is_fine(tmp_path):
    tok = load(tmp_path, "tokenizer.bin", BIN)
    assert tok.encode("a ab é").tolist() == [262, 262, 261, 259, 3 + 0xC3, 3 + 0xA9]
    assert tok.decode(tok.encode("a ab é")) == "a ab é"
    assert Tokenizer.load(tmp_path) == tok


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "4 bytes"),
        (START, "0 tokens"),
        (b"".join(BIN_HEAD[:-1]), "258 tokens"),
        (BIN + b"\0", "token 264 is cut off"),
        (BIN + entry("c", length=5), "token 264 is cut off"),
        (BIN + entry("c", length=2**31 - 1), "2147483647"),
        (BIN + entry("c", length=-1), "-1 bytes"),
        (BIN + entry(""), "0 bytes"),
        (BIN + entry("c" * 17), "17 bytes"),
        (struct.pack("<i", -5) + BIN[4:], "token 0"),
        (BIN + entry(b"\xff"), "token 264.*UTF-8"),
        (BIN + entry("\0"), "264.*zero byte"),
        (BIN + entry("a"), '"a".*two ids'),
        (BIN + entry("c", float("nan")), "score"),
        (BIN.replace(b"<0x41>", b"<0x42>", 1), "token 68"),
    ],
)
def test_what_is_wrong_with_a_bin_is_named(data, words, tmp_path):
    with pytest.raises(TokenizerError, match=words) as error:
        load(tmp_path, "x.bin", data)
    assert "x.bin" in str(error.value)


# --- tokenizer.json --------------------------------------------------------------------------------------------------

JSON = {
    "added_tokens": [
        {"id": 0, "content": "<s>", "special": True, "lstrip": True, "rstrip": True, "single_word": True},
        {"id": 7, "content": "<x>", "special": False, "normalized": True},
    ],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFC"},
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"Regex": " +"}, "content": "▁"},
        ],
    },
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "-"}, "behavior": "MergedWithNext", "invert": False},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
        ],
    },
    "post_processor": {"type": "RobertaProcessing", "sep": ["<s>", 0], "cls": ["<s>", 0]},
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    },
    "model": {
        "type": "BPE",
        "unk_token": "?",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": {"<s>": 0, "?": 1, "▁": 2, "a": 3, "b": 4, "▁a": 5, "ab": 6, "<0x0A>": 8},
        "merges": [["▁", "a"], ["a", "b"]],
    },
}


def changed(**changes):
    return json.dumps({**JSON, **changes})


def model(**changes):
    return changed(model={**JSON["model"], **changes})


def test_the_json_is_fine():
    tok = Tokenizer.from_json(json.dumps(JSON))
    assert tok.encode("a ab <x>\n").tolist() == [5, 5, 4, 7, 8]
    assert tok.template == ([0], [0])
    assert Tokenizer.from_json(tok.to_json()) == tok


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (model(unk_token="nope"), "nope"),
        (model(vocab={**JSON["model"]["vocab"], "b": 3}), "id 3"),
        (model(vocab={**JSON["model"]["vocab"], "far": 4_000_000_000}), "far beyond"),
        (model(vocab={**JSON["model"]["vocab"], "": 9}), "empty token"),
        (model(merges=[["a", "zz"]]), "needs the token"),
        (model(merges=[["b", "b"]]), "needs the token"),
        (model(merges=["▁ a b"]), "not a merge"),
        (model(dropout=0.1), "dropout"),
        (model(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (changed(added_tokens=[{"id": 7, "content": "b"}, {"id": 7, "content": "c"}]), "id 7|has id|two ids"),
        (changed(added_tokens=[{"id": 4_000_000_000, "content": "x"}]), "far beyond"),
        (changed(normalizer={"type": "Replace", "pattern": {"Regex": "("}, "content": ""}), r"\("),
        (changed(normalizer={"type": "Prepend"}), "Prepend"),
        (changed(normalizer={"type": "Sequence"}), "Sequence"),
        (changed(pre_tokenizer={"type": "Metaspace", "replacement": "ab"}), "Metaspace"),
        (changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "a"}, "behavior": "x"}), "Split"),
        (changed(decoder={"type": "Strip", "content": " ", "start": -1, "stop": 0}), "Strip"),
        (changed(decoder={"type": "BPEDecoder", "suffix": "</w>"}), "BPEDecoder"),
        (changed(post_processor={"type": "TemplateProcessing", "single": []}), "TemplateProcessing"),
        (
            changed(post_processor={"type": "BertProcessing", "sep": ["x", -1], "cls": ["y", 1]}),
            "BertProcessing",
        ),
    ],
)
def test_what_is_wrong_with_a_json_is_named(text, words):
    with pytest.raises(TokenizerError, match=words):
        Tokenizer.from_json(text)


@pytest.mark.parametrize("role", ["normalizer", "pre_tokenizer", "decoder", "post_processor"])
def test_deep_sequences_are_refused(role):
    lists = {
        "normalizer": "normalizers",
        "pre_tokenizer": "pretokenizers",
        "decoder": "decoders",
        "post_processor": "processors",
    }
    head = f'{{"type": "Sequence", "{lists[role]}": ['
    text = json.dumps({**JSON, role: "DEEP"}).replace('"DEEP"', head * 20_000 + "]}" * 20_000)
    with pytest.raises(TokenizerError, match="recursion"):
        Tokenizer.from_json(text)


def test_lone_surrogates_in_escapes_are_refused():
    with pytest.raises(TokenizerError, match="hex escape"):
        Tokenizer.from_json(json.dumps(JSON).replace('"ab"', '"\\ud800"'))


def test_cycles_and_merges_that_lead_nowhere_end():
    vocab = {c: i for i, c in enumerate(["a", "b", "aa", "ab", "ba", "aba", "aaa"])}
    merges = [["aa", "a"], ["a", "aa"], ["a", "b"], ["b", "a"], ["ab", "a"], ["a", "ba"], ["a", "a"]]
    tok = Tokenizer.from_json(
        json.dumps({"model": {"type": "BPE", "vocab": vocab, "merges": merges}, "decoder": {"type": "Fuse"}})
    )
    for text in ("ab" * 5001, "a" * 9999, "b" * 100):
        assert tok.decode(tok.encode(text)) == text


def test_expressions_that_explode_end_in_an_error():
    bomb = {"Regex": "(?:(?=a)a|a)+c"}
    normalizer = {"type": "Replace", "pattern": bomb, "content": "b"}
    tok = Tokenizer.from_json(changed(normalizer=normalizer))
    with pytest.raises(TokenizerError, match="given up"):
        tok.encode("a" * 100)
    # Added tokens that are normalized go through it as the file is loaded.
    token = {"id": 7, "content": "a" * 100, "special": False, "normalized": True}
    with pytest.raises(TokenizerError, match="given up"):
        Tokenizer.from_json(changed(normalizer=normalizer, added_tokens=[token]))


@pytest.mark.parametrize("normalized", [False, True])
def test_added_tokens_that_want_the_same_white_space(normalized):
    tokens = [
        {"id": 7, "content": "<x>", "special": False, "normalized": normalized, "rstrip": True},
        {"id": 9, "content": " ", "special": False, "normalized": normalized, "lstrip": True},
    ]
    tok = Tokenizer.from_json(changed(normalizer=None, pre_tokenizer=None, added_tokens=tokens))
    located = tok.encode_with_offsets("<x>   a <x>")
    assert located.ids.tolist() == [7, 3, 9, 7]
    assert located.bytes.tolist() == [[0, 6], [6, 7], [7, 8], [8, 11]]


def test_an_added_token_of_a_megabyte_takes_megabytes():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    long = "".join(chr(33 + i * i % 89) for i in range(2**20))
    tok = Tokenizer.from_json(changed(added_tokens=[{"id": 7, "content": long, "special": False}]))
    assert 7 in tok.encode(f"a{long}b").tolist()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


def test_text_that_grows_is_still_encoded():
    grow = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 30}] * 3
    tok = Tokenizer.from_json(changed(normalizer={"type": "Sequence", "normalizers": grow}))
    assert tok.encode("a").size > 1000


# --- all of them -----------------------------------------------------------------------------------------------------

FILES = {"x.model": MODEL, "x.bin": BIN, "x.json": json.dumps(JSON).encode()}


@pytest.mark.parametrize("name", FILES)
def test_cut_off_at_every_byte(name, tmp_path):
    for cut in range(len(FILES[name])):
        problem = fault(tmp_path, name, FILES[name][:cut])
        # A model may end after any of its fields, a bin after any token: nothing tells that there was more.
        assert name in problem if problem else name != "x.json"


@pytest.mark.parametrize("name", FILES)
def test_bytes_changed_at_random(name, tmp_path):
    rng = random.Random(5)
    for _ in range(500):
        data = bytearray(FILES[name])
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.choice([0, 0xFF, 0x7F, 0x80, rng.randrange(256)])
        fault(tmp_path, name, bytes(data))


def test_declared_sizes_take_no_memory(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, data in [
        ("x.model", b"\x0a" + varint(10 * 2**30) + b"abc"),
        ("x.model", field(1, b"\x0a" + varint(2**40))),
        ("x.bin", BIN + entry("c", length=2**31 - 1)),
        ("x.bin", struct.pack("<i", 2**31 - 1) + entry("c", length=2**31 - 1)),
        ("x.json", changed(added_tokens=[{"id": 2**32 - 1, "content": "x"}]).encode()),
    ]:
        with pytest.raises(TokenizerError):
            load(tmp_path, name, data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
